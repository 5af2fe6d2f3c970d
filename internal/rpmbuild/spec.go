package rpmbuild

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// planNumber stands for %{slipway_number} while specs are only read.
const planNumber = "990099"

// relation is one Requires, Provides or BuildRequires; flags are rpm's.
type relation struct {
	name, evr string
	flags     int
}

// binary is one package that a spec makes.
type binary struct {
	name, version, release, arch string
	epoch                        int
	provides, requires           []relation
}

// spec is one spec file as rpmspec reads it.
type spec struct {
	name, layer   string
	file          string // <layer>/specs/<name>/<name>.spec, for people
	dir           string // its staged folder
	sums          map[string]string
	wanted        []Source // by its sources.yaml
	text          string
	pins          []distro.SourcePin // its sources that lie in no layer
	target        target             // what this reading of the spec is for
	exclusive     []string           // ExclusiveArch
	exclude       []string           // ExcludeArch
	epoch         int
	version       string
	binaries      []binary
	buildRequires []relation
	sources       []string
	changed       int64    // the newest changelog entry, seconds since 1970
	feedSums      []string // of the feed configuration, if the spec reads it
}

// at gives a position in the spec, with the line itself.
func (s *spec) at(line int) errs.At {
	a := errs.At{File: s.file, Line: line}
	if lines := strings.Split(s.text, "\n"); line >= 1 && line <= len(lines) {
		a.Excerpt = lines[line-1]
	}
	return a
}

// find gives the position of the first line that matches; the file if none does.
func (s *spec) find(pattern string) errs.At {
	re := regexp.MustCompile(pattern)
	for i, l := range strings.Split(s.text, "\n") {
		if re.MatchString(l) {
			return s.at(i + 1)
		}
	}
	return s.at(0)
}

func (s *spec) invalid(at errs.At, format string, args ...any) error {
	return errs.E(errs.Invalid, fmt.Sprintf(format, args...), at)
}

const queryHead = `P\t%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\nt\t%{SUMMARY}\t%{LICENSE}\t%{URL}\t%{VENDOR}\n[r\t%{REQUIRENAME}\t%{REQUIREFLAGS}\t%{REQUIREVERSION}\n]`

var (
	queryPackages = queryHead + `[p\t%{PROVIDENAME}\t%{PROVIDEFLAGS}\t%{PROVIDEVERSION}\n]`
	querySource   = queryHead + `[s\t%{SOURCE}\n][s\t%{PATCH}\n][o\t%{EXCLUSIVEARCH}\n][x\t%{EXCLUDEARCH}\n][c\t%{CHANGELOGTIME}\n]`
)

// parse runs rpmspec in the sandbox (a spec may run commands while it is read)
// and gives all findings of this spec.
func (b *Builder) parse(ctx context.Context, sb *sandbox, s *spec, work string, vars map[string]string) errs.List {
	dir := filepath.Join(work, s.name+"."+s.target.Scope)
	if err := writeConfig(dir, sb, s.target, merge(vars, s.target.vars(), map[string]string{"slipway_number": planNumber}), sourceMacros(s.target, s.pins)); err != nil {
		return errs.List{err}
	}
	var bad errs.List
	query := func(which, format string) [][]string {
		var out, msg bytes.Buffer
		argv := append([]string{b.opt.Tools.Rpmspec}, rpmConfig(s.target)...)
		argv = append(argv, "-q", which, "--qf", format, top+"/SOURCES/"+s.name+".spec")
		// rpmspec writes its answer and its complaints to different places; the sandbox joins them, so the marks decide.
		err := sb.run(ctx, program{dir: dir, show: map[string]string{"SOURCES": s.dir}, argv: argv, out: &out})
		var rows [][]string
		for _, l := range strings.Split(out.String(), "\n") {
			f := strings.Split(l, "\t")
			if len(f) > 1 && len(f[0]) == 1 {
				rows = append(rows, f)
			} else if l != "" {
				msg.WriteString(strings.ReplaceAll(l, dir, top) + "\n")
			}
		}
		if ctx.Err() != nil {
			bad = errs.List{context.Cause(ctx)}
			return nil
		}
		bad = append(bad, s.complaints(msg.String())...)
		if err != nil && len(bad) == 0 {
			bad = append(bad, errs.E(errs.Invalid, "rpmspec cannot read this spec: "+strings.TrimSpace(msg.String()), s.at(0), err))
		}
		bad = append(bad, s.unexpanded(rows)...)
		return rows
	}
	source := query("--srpm", querySource)
	if len(bad) > 0 {
		return bad
	}
	for _, f := range source {
		switch f[0] {
		case "P":
			if f[1] != s.name {
				bad = append(bad, s.invalid(s.find(`(?i)^name:`), "the spec of folder %s has the name %s", s.name, f[1]))
			}
			s.epoch, _ = strconv.Atoi(f[2])
			s.version = f[3]
		case "r":
			if r := toRelation(f); !strings.HasPrefix(r.name, "rpmlib(") {
				s.buildRequires = append(s.buildRequires, r)
			}
		case "o":
			s.exclusive = append(s.exclusive, f[1])
		case "x":
			s.exclude = append(s.exclude, f[1])
		case "s":
			s.sources = append(s.sources, f[1])
		case "c":
			t, _ := strconv.ParseInt(f[1], 10, 64)
			s.changed = max(s.changed, t)
		}
	}
	for _, f := range query("--builtrpms", queryPackages) {
		n := len(s.binaries) - 1
		switch {
		case f[0] == "P":
			epoch, _ := strconv.Atoi(f[2])
			s.binaries = append(s.binaries, binary{name: f[1], epoch: epoch, version: f[3], release: f[4], arch: f[5]})
		case f[0] == "r" && n >= 0:
			s.binaries[n].requires = append(s.binaries[n].requires, toRelation(f))
		case f[0] == "p" && n >= 0:
			s.binaries[n].provides = append(s.binaries[n].provides, toRelation(f))
		}
	}
	return append(bad, s.check()...)
}

var unexpanded = regexp.MustCompile(`%\{[^}]*\}`)

// unexpanded finds macros that nothing defines: rpm warns of few of them, and
// the text would end up in a package.
func (s *spec) unexpanded(rows [][]string) errs.List {
	var bad errs.List
	seen := map[string]bool{}
	for _, row := range rows {
		for _, m := range unexpanded.FindAllString(strings.Join(row, "\t"), -1) {
			if !seen[m] {
				seen[m] = true
				bad = append(bad, s.invalid(s.find(regexp.QuoteMeta(m)), "nothing defines the macro %s", m))
			}
		}
	}
	return bad
}

func toRelation(f []string) relation {
	f = append(f, "", "", "")
	flags, _ := strconv.Atoi(f[2])
	return relation{name: f[1], flags: flags, evr: f[3]}
}

// check gives what rpmspec accepts and a build of ours does not.
func (s *spec) check() errs.List {
	var bad errs.List
	if len(s.binaries) == 0 {
		bad = append(bad, errs.E(errs.Invalid, "this spec makes no package", s.at(0), errs.Hint("a package is made for each %files section")))
	}
	for _, p := range s.binaries {
		if !strings.Contains(p.release, planNumber) {
			bad = append(bad, errs.E(errs.Invalid, "the release of package "+p.name+" does not rise with its content", s.find(`(?i)^release:`), errs.Hint("Release: %{slipway_number}")))
			break
		}
	}
	if s.changed == 0 {
		bad = append(bad, errs.E(errs.Invalid, "there is no entry in %changelog: its date is the build time of the packages", s.at(0),
			errs.Hint("%changelog\n* Mon Jan 05 2026 Your Name <you@example.org>\n- first version")))
	}
	have := make([]string, 0, len(s.sums))
	for n := range s.sums {
		have = append(have, n)
	}
	sort.Strings(have)
	for _, src := range s.sources {
		if _, ok := s.sums[src]; !ok {
			hint := errs.Hintf("put it beside the spec, or name it in specs/%s/sources.yaml", s.name)
			if slices.ContainsFunc(s.wanted, func(w Source) bool { return w.makes(src) }) {
				hint = "its sources.yaml wants it, but sources.lock does not pin it"
			} else if near := errs.Near(src, have); near != "" {
				hint = errs.Hintf("did you mean %q?", near)
			}
			bad = append(bad, errs.E(errs.Invalid, "the source "+src+" is missing", s.find(`(?i)^(source|patch)\d*:.*`+regexp.QuoteMeta(src)), hint))
		}
	}
	return bad
}

var complaint = regexp.MustCompile(`^(error|warning): (?:(?:\S*/)?\S+\.spec:|line )(\d+): ?(.*)$`)

// complaints makes findings of what rpm says of a spec.
func (s *spec) complaints(msg string) errs.List {
	var bad errs.List
	lines := strings.Split(strings.TrimSpace(msg), "\n")
	for i, l := range lines {
		m := complaint.FindStringSubmatch(l)
		switch {
		case m != nil && m[1] == "error":
			n, _ := strconv.Atoi(m[2])
			text := m[3]
			if i+1 < len(lines) && strings.HasPrefix(lines[i+1], ": ") {
				text += lines[i+1]
			}
			bad = append(bad, s.invalid(s.at(n), "rpm: %s", text))
		case strings.HasPrefix(l, "error: query of specfile"):
		case strings.HasPrefix(l, "error: "):
			bad = append(bad, s.invalid(s.at(0), "rpm: %s", strings.TrimPrefix(l, "error: ")))
		}
	}
	return bad
}

func (s *spec) isNoarch() bool {
	return !slices.ContainsFunc(s.binaries, func(p binary) bool { return p.arch != "noarch" })
}

func (s *spec) task() string { return s.name + "." + s.target.Scope }

func (s *spec) key() distro.NumberKey {
	return distro.NumberKey{Source: s.name, Version: distro.FormatEVR(s.epoch, s.version, ""), Arch: s.target.Scope}
}

// writeConfig makes a task's folder with rpm's configuration in it.
func writeConfig(dir string, sb *sandbox, t target, vars map[string]string, raw string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errs.Wrap(err, "folder of a task")
	}
	for name, text := range map[string]string{"macros": macros(sb.top(dir), vars, raw), "rpmrc": rpmrc(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return errs.Wrap(err, "configuration of rpm")
		}
	}
	return nil
}

func merge(maps ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}
