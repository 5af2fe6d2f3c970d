package bitbake

import (
	"bufio"
	"context"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// consoleLog is a log of one run of BitBake: tmp/log/cooker/<MACHINE>/<time>.log, as
// BB_CONSOLELOG of OE-Core's bitbake.conf has it, or what a CI kept of it.
type consoleLog struct {
	name, path string
	vars       map[string]string      // of "Build Configuration:", which only builds have
	layers     []distro.ImportedLayer // as above
	summary    string                 // the line "Tasks Summary"; "" when the run did not come to its end
}

func (l consoleLog) board() string { return l.vars["MACHINE"] }

// consoleLogs reads all, sorted by name: of one board the newest is the last.
func consoleLogs(ctx context.Context, t tree) ([]consoleLog, error) {
	var out []consoleLog
	read := func(rel, p string) error {
		l, err := readConsoleLog(p)
		l.name, l.path = rel, p
		out = append(out, l)
		return err
	}
	folder := "tmp/log/cooker"
	if given, ok := t.at["console-log"]; ok {
		if regular(given) {
			err := read(filepath.Base(given), given)
			return out, err
		}
		folder = "console-log"
	}
	err := t.walk(ctx, folder, func(rel, p string) error {
		if path.Ext(rel) != ".log" || path.Base(rel) == "console-latest.log" {
			return nil
		}
		return read(rel, p)
	})
	slices.SortFunc(out, func(a, b consoleLog) int { return strings.Compare(a.name, b.name) })
	return out, err
}

var (
	reSetting = regexp.MustCompile(`^([A-Za-z0-9_.+-]+)\s*(?:= "(.*)")?$`)
	reCommit  = regexp.MustCompile(`:([0-9a-f]{40}|[0-9a-f]{64}|<unknown>)$`)
)

// readConsoleLog finds the configuration and the summary of the last build in a log. What
// a CI writes before each line (a time) is passed by.
func readConsoleLog(p string) (consoleLog, error) {
	l := consoleLog{vars: map[string]string{}}
	f, err := os.Open(p)
	if err != nil {
		return l, errs.E(errs.Unavailable, "read the console log", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, maxLine)
	inside, cut := false, 0
	for {
		line, more, err := r.ReadLine()
		if err == io.EOF {
			return l, nil
		}
		if err != nil {
			return l, errs.E(errs.Unavailable, "read "+p, err)
		}
		s := strings.TrimRight(string(line), "\r")
		for more && err == nil {
			_, more, err = r.ReadLine()
		}
		if i := strings.Index(s, "Build Configuration:"); i >= 0 && strings.HasSuffix(s, "Build Configuration:") {
			inside, cut = true, i
			l.vars, l.layers, l.summary = map[string]string{}, nil, ""
			continue
		}
		if i := strings.Index(s, "NOTE: Tasks Summary: "); i >= 0 {
			l.summary, inside = s[i:], false
		}
		if inside {
			m := reSetting.FindStringSubmatch(strings.TrimSpace(s[min(cut, len(s)):]))
			if inside = m != nil; inside {
				l.setting(m[1], m[2], strings.Contains(m[0], `= "`))
			}
		}
	}
}

// setting takes a line of the configuration. Layers of one commit are listed with the
// commit at the last (get_layers_branch_rev in OE-Core's base.bbclass).
func (l *consoleLog) setting(name, value string, given bool) {
	c := reCommit.FindStringSubmatch(value)
	if c == nil && given {
		l.vars[name] = value
		return
	}
	l.layers = append(l.layers, distro.ImportedLayer{Name: name, Commit: "?"})
	if c == nil {
		return
	}
	for i := range l.layers {
		if l.layers[i].Commit == "?" {
			l.layers[i].Commit = strings.TrimPrefix(c[1], "<unknown>")
		}
	}
}

// newest gives the last log of each board that is a log of a build.
func newest(logs []consoleLog) []consoleLog {
	last := map[string]int{}
	for i, l := range logs {
		if l.board() != "" {
			last[l.board()] = i
		}
	}
	var out []consoleLog
	for i, l := range logs {
		if l.board() != "" && last[l.board()] == i {
			out = append(out, l)
		}
	}
	return out
}

// failed tells from the summary that tasks failed: "... and 1 failed."
func (l consoleLog) failed() bool {
	return l.summary != "" && !strings.Contains(l.summary, "all succeeded")
}

var reRevision = regexp.MustCompile(`^(\S+)\s*= (\S+):([0-9a-f]{40}|[0-9a-f]{64}|<unknown>)( -- modified)?$`)

// layersOf gives the layers as the console's configuration names them, with what
// buildhistory's metadata-revs says of changes that are in no commit. Where both know
// a layer's commit and differ, the tree is of two builds.
func layersOf(t tree, logs []consoleLog) ([]distro.ImportedLayer, errs.List) {
	var bad errs.List
	var out []distro.ImportedLayer
	from := map[string]string{}
	note := func(l distro.ImportedLayer, where string) {
		i := slices.IndexFunc(out, func(x distro.ImportedLayer) bool { return x.Name == l.Name })
		switch {
		case i < 0:
			out = append(out, l)
			from[l.Name] = where
			return
		case l.Commit == "":
		case out[i].Commit == "":
			out[i].Commit, from[l.Name] = l.Commit, where
		case out[i].Commit != l.Commit:
			bad = append(bad, errs.E(errs.Conflict, "layer "+l.Name+" was at "+short(out[i].Commit)+" for "+from[l.Name]+" and at "+short(l.Commit)+" for "+where+": the tree is of two builds",
				errs.Hint("build all boards from one checkout, and hand over what that left")))
		}
		out[i].Modified = out[i].Modified || l.Modified
	}
	for _, l := range newest(logs) {
		for _, x := range l.layers {
			if x.Commit == "?" {
				x.Commit = ""
			}
			note(x, "console log "+l.name)
		}
	}
	data, err := os.ReadFile(t.path("buildhistory/metadata-revs"))
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if m := reRevision.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
				l := distro.ImportedLayer{Name: m[1], Commit: m[3], Modified: m[4] != ""}
				if l.Commit == "<unknown>" { // git said nothing: of changes neither
					l.Commit, l.Modified = "", false
				}
				note(l, "buildhistory")
			}
		}
	}
	return out, bad
}

func short(commit string) string { return commit[:min(12, len(commit))] }
