// Package own runs a team's own checks: executables in the folder checks/ of the
// distribution's repository. A found issue becomes a test by adding a file.
//
//	list, err := own.Find(filepath.Join(workspace, "checks"), keyFolders)
//
// The file's name is the check's: checks/no-telnet.sh is "own-no-telnet". It is
// started in a sandbox (bwrap) without a network, in which no home and no key is
// there; it reads what the candidate is on its standard input, and writes its
// findings to its standard output, both as JSON (docs/checks.md, "Your own checks").
//
// It fails closed: a check that ends with another status than 0, does not end in
// time, says nothing or nonsense, or cannot be started has not been asked, and
// the gate blocks on that.
package own

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Prefix of the ids.
const Prefix = "own-"

// How long a check may take.
const (
	DefaultTime = 5 * time.Minute
	MaxTime     = time.Hour
)

var namePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// own is one executable.
type own struct {
	spec   distro.CheckSpec
	path   string // absolute
	within time.Duration
	hide   []string
}

func (o *own) Spec() distro.CheckSpec { return o.spec }

// Find lists the checks of a folder, in the order of their names; none when there is
// no such folder. hide are folders that no check may see. Every file must be a
// check: one that is not executable is refused, since it would silently not be
// asked. README files, hidden files and folders (for what several checks share) are left out.
func Find(dir string, hide []string) ([]check.Check, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read the folder of checks", err)
	}
	var out []check.Check
	var found errs.List
	from := map[string]string{}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") || strings.HasPrefix(strings.ToUpper(name), "README") {
			continue
		}
		o, err := open(dir, name)
		if err == nil && from[o.spec.ID] != "" {
			err = errs.E(errs.Invalid, fmt.Sprintf("checks/%s and checks/%s are both check %s", from[o.spec.ID], name, o.spec.ID), errs.Hint("give one of them another name"))
		}
		if err != nil {
			found = append(found, err)
			continue
		}
		o.hide, from[o.spec.ID] = hide, name
		out = append(out, o)
	}
	return out, found.Err()
}

// open reads what a check says of itself: comment lines "# asks: ...", "# cure: ...",
// "# level: warn", "# within: 10m" in its first 4 KiB.
func open(dir, name string) (*own, error) {
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	shown := "checks/" + name
	st, err := os.Lstat(path)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+shown, err)
	}
	switch {
	case !st.Mode().IsRegular():
		return nil, errs.E(errs.Invalid, shown+" is no regular file", errs.Hint("a check is one executable file of the repository"))
	case st.Mode().Perm()&0o111 == 0:
		return nil, errs.E(errs.Invalid, shown+" is not executable, and would never be asked", errs.Hint("chmod +x "+shown+"; or move it into a folder below checks/"))
	}
	id := strings.TrimSuffix(name, filepath.Ext(name))
	if !namePattern.MatchString(id) {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("%s: %q is no name of a check", shown, id), errs.Hint("lower-case letters, digits and single dashes: no-telnet.sh"))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+shown, err)
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 4096)
	n, _ := f.Read(head) // an unreadable one fails when it is started
	o := &own{path: path, within: DefaultTime, spec: distro.CheckSpec{ID: Prefix + id, Level: distro.Block, Asks: "the distribution's own check " + id, Cure: "read " + shown}}
	if bytes.IndexByte(head[:n], 0) >= 0 {
		return o, nil
	}
	line := 0
	for text := range strings.Lines(string(head[:n])) {
		line++
		rest, ok := strings.CutPrefix(strings.TrimSpace(text), "#")
		key, value, is := strings.Cut(strings.TrimSpace(rest), ":")
		if value = strings.TrimSpace(value); !ok || !is || value == "" {
			continue
		}
		at := errs.At{File: shown, Line: line}
		switch key {
		case "asks":
			o.spec.Asks = value
		case "cure":
			o.spec.Cure = value
		case "level":
			l := distro.Level(value)
			if l != distro.Block && l != distro.Warn && l != distro.Info {
				return nil, errs.E(errs.Invalid, fmt.Sprintf("no level %q", value), at, errs.Hint("block, warn or info"))
			}
			o.spec.Level = l
		case "within":
			d, err := time.ParseDuration(value)
			if err != nil || d < time.Second || d > MaxTime {
				return nil, errs.E(errs.Invalid, fmt.Sprintf("%q is no time that a check may take", value), at, errs.Hintf("from 1s to %s: 90s, 10m", MaxTime))
			}
			o.within = d
		}
	}
	return o, nil
}
