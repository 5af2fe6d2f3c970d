package own

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Candidate is what a check reads. Paths are those in the sandbox.
type Candidate struct {
	Schema   int            `json:"schema"` // 1
	Version  distro.Version `json:"version"`
	Boards   []string       `json:"boards"`
	Packages []Package      `json:"packages"` // that the candidate brings, new and kept
	Base     []Package      `json:"base"`     // of the release that it follows
	Images   []Image        `json:"images"`
}

// Package is one of a candidate or of its base.
type Package struct {
	distro.PackageRecord
	Path string `json:"path,omitempty"` // of the file; new packages have one
}

// Image is a disk of a candidate.
type Image struct {
	Board    string        `json:"board"`
	Image    string        `json:"image"`
	Path     string        `json:"path"`
	Digest   distro.Digest `json:"digest"`
	Packages []string      `json:"packages"` // name-[epoch:]version-release.arch
}

// Answer is what a check writes: one object.
type Answer struct {
	Asked    int       `json:"asked"`
	Note     string    `json:"note"`
	Findings []Finding `json:"findings"`
}

// Finding is one of an answer.
type Finding struct {
	ID       string       `json:"id"`
	Level    distro.Level `json:"level"` // of the check when empty
	Object   string       `json:"object"`
	Boards   []string     `json:"boards"` // none means all
	Text     string       `json:"text"`
	Cure     string       `json:"cure"`
	Evidence []string     `json:"evidence"`
	Source   string       `json:"source"` // recipe or spec: its commits are shown
}

// Limits of an answer.
const (
	maxAnswer   = 8 << 20 // bytes
	maxLog      = 1 << 20 // of what it says beside
	maxFindings = 1000
)

const (
	feedDir  = "/candidate/feed"
	imageDir = "/candidate/images"
)

// question changes when the interface does: old answers are void then.
const question = "own, 1"

// Run asks.
func (o *own) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	program, err := os.ReadFile(o.path)
	if err != nil {
		return res, errs.E(errs.Unavailable, "read check "+o.spec.ID, err)
	}
	in, binds, err := candidate(bed)
	if err != nil {
		return res, err
	}
	input, err := json.MarshalIndent(in, "", " ")
	if err != nil {
		return res, err
	}
	// What lies beside a check may be read by it, so an answer is remembered for all of it.
	beside, err := folderDigest(filepath.Dir(o.path))
	if err != nil {
		return res, err
	}
	known := distro.DigestOf(fmt.Appendf(nil, "%s\n%s\n%s\n%s", question, distro.DigestOf(program), beside, input))
	for _, i := range in.Images {
		if i.Digest == "" {
			known = ""
		}
	}
	if known != "" && bed.Answered != nil {
		if by, ok := bed.Answered(known); ok {
			res.Note = "asked of the same packages and images for " + by
			return res, nil
		}
	}
	work := filepath.Join(bed.Dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return res, err
	}
	var out, said []byte
	err = bed.Each(ctx, 1, func(ctx context.Context, _ int) (err error) {
		out, said, err = o.start(ctx, work, binds, input)
		return err
	})
	if len(said) > 0 {
		file, e := bed.Transcript("said.txt", strings.ToValidUTF8(string(said), "?"))
		if e != nil {
			return res, e
		}
		res.Evidence = append(res.Evidence, file)
	}
	if err != nil {
		return res, err
	}
	a, err := parse(out, in.Boards)
	if err != nil {
		return res, err
	}
	res.Asked, res.Note = a.Asked, a.Note
	for _, f := range a.Findings {
		x := distro.Finding{ID: f.ID, Level: f.Level, Object: f.Object, Boards: f.Boards, Text: f.Text, Cure: f.Cure, Evidence: f.Evidence, Source: f.Source}
		if len(res.Evidence) > 0 {
			x.Log = res.Evidence[0].Log
		}
		res.Findings = append(res.Findings, x)
	}
	if known != "" && a.Asked > 0 && len(a.Findings) == 0 {
		res.Good = append(res.Good, known)
	}
	return res, nil
}

// bind is a file or folder that the sandbox shows.
type bind struct{ from, to string }

// candidate lays out what a check may know.
func candidate(bed *check.Bed) (Candidate, []bind, error) {
	c := Candidate{Schema: 1, Version: bed.Version, Boards: []string{}, Packages: []Package{}, Base: []Package{}, Images: []Image{}}
	var binds []bind
	for _, b := range bed.Boards {
		c.Boards = append(c.Boards, b.Name)
	}
	files := map[string]string{}
	if dir, ok := strings.CutPrefix(bed.Candidate.Vars["slipway_url"], "file://"); ok {
		err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && strings.HasSuffix(p, ".rpm") {
				rel, _ := filepath.Rel(dir, p)
				files[filepath.Base(p)] = feedDir + "/" + filepath.ToSlash(rel)
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return c, nil, errs.E(errs.Unavailable, "read the candidate's feed", err)
		}
		if err == nil {
			binds = append(binds, bind{dir, feedDir})
		}
	}
	brought := bed.Brought
	if brought == nil {
		brought = bed.Packages
	}
	for _, r := range brought {
		c.Packages = append(c.Packages, Package{r, files[r.File]})
	}
	for _, r := range bed.Base {
		c.Base = append(c.Base, Package{PackageRecord: r})
	}
	for _, i := range bed.Images {
		x := Image{Board: i.Board, Image: i.Image, Path: imageDir + "/" + i.Board + "/" + i.Image, Digest: i.Digest, Packages: []string{}}
		for _, content := range bed.Contents {
			if content.Board == i.Board && content.Image == i.Image {
				for _, p := range content.Packages {
					x.Packages = append(x.Packages, p.NEVRA())
				}
			}
		}
		binds = append(binds, bind{i.Path, x.Path})
		c.Images = append(c.Images, x)
	}
	return c, binds, nil
}

func folderDigest(dir string) (distro.Digest, error) {
	var all []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		all = append(all, rel+" "+string(distro.DigestOf(b)))
		return err
	})
	if err != nil {
		return "", errs.E(errs.Unavailable, "read the folder of checks", err)
	}
	slices.Sort(all)
	return distro.DigestOf([]byte(strings.Join(all, "\n"))), nil
}

// start runs the check in its sandbox, and gives what it wrote and what it said.
func (o *own) start(ctx context.Context, work string, binds []bind, input []byte) (out, said []byte, err error) {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		return nil, nil, errs.E(errs.Unavailable, "a check of one's own runs in a sandbox, and bwrap is not installed", errs.Hint("apt-get install bubblewrap"))
	}
	limited, cancel := context.WithTimeoutCause(ctx, o.within, errs.E(errs.Failed, fmt.Sprintf("the check did not end within %s", o.within), errs.Hint("make it faster, or give it more time: a line \"# within: 20m\"")))
	defer cancel()
	stdout, stderr := &limit{max: maxAnswer}, &limit{max: maxLog}
	for _, proc := range []bool{true, false} {
		probe := exec.CommandContext(limited, bwrap, o.flags(work, binds, proc, "/usr/bin/true")...)
		if err = probe.Run(); err != nil && limited.Err() == nil && proc {
			continue // inside some containers a new /proc may not be mounted
		}
		if err != nil {
			break
		}
		cmd := exec.CommandContext(limited, bwrap, o.flags(work, binds, proc, "/checks/"+filepath.Base(o.path))...)
		cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/work", "TMPDIR=/tmp", "LC_ALL=C.UTF-8", "TZ=UTC", "SLIPWAY_CHECK=" + o.spec.ID}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), stdout, stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = 5 * time.Second
		err = cmd.Run()
		switch {
		case limited.Err() != nil:
			return nil, stderr.b, context.Cause(limited)
		case stdout.over:
			return nil, stderr.b, errs.E(errs.Failed, fmt.Sprintf("the check wrote more than %d bytes", maxAnswer))
		case err != nil && errors.As(err, new(*exec.ExitError)):
			return nil, stderr.b, errs.E(errs.Failed, "the check ended with "+err.Error()+lastLine(stderr.b), errs.Hint("a check that has findings writes them, and ends with 0"))
		case err != nil:
			return nil, stderr.b, errs.E(errs.Failed, "run the check", err)
		}
		return stdout.b, stderr.b, nil
	}
	if limited.Err() != nil {
		return nil, nil, context.Cause(limited)
	}
	return nil, nil, errs.E(errs.Unavailable, "bwrap does not work here, and a check of one's own does not run without a sandbox", err, errs.Hint("allow unprivileged user namespaces"))
}

func lastLine(b []byte) string {
	l := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(b), "?")), "\n")
	if last := l[len(l)-1]; last != "" {
		return ": " + last[:min(len(last), 300)]
	}
	return ""
}

// flags are the arguments of bwrap. What is not named here is not there: no network,
// no home, no key, no other folder of the workspace.
func (o *own) flags(work string, binds []bind, proc bool, program string) []string {
	f := []string{"--unshare-all", "--unshare-user", "--hostname", "slipway", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--dev", "/dev", "--tmpfs", "/tmp"}
	if proc {
		f = append(f, "--proc", "/proc")
	}
	for _, d := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		if target, err := os.Readlink(d); err == nil {
			f = append(f, "--symlink", target, d)
		} else {
			f = append(f, "--ro-bind-try", d, d)
		}
	}
	for _, e := range []string{"alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "passwd", "group", "magic"} {
		f = append(f, "--ro-bind-try", "/etc/"+e, "/etc/"+e)
	}
	f = append(f, "--bind", work, "/work", "--ro-bind", filepath.Dir(o.path), "/checks")
	for _, b := range binds {
		f = append(f, "--ro-bind", b.from, b.to)
	}
	for _, h := range o.hide { // also when it lies below something that is shown
		if _, err := os.Stat(h); err == nil {
			f = append(f, "--tmpfs", h)
		}
	}
	return append(f, "--chdir", "/work", "--", program)
}

// limit keeps the first bytes that are written.
type limit struct {
	b    []byte
	max  int
	over bool
}

func (l *limit) Write(p []byte) (int, error) {
	n := min(len(p), l.max-len(l.b))
	l.b, l.over = append(l.b, p[:n]...), l.over || n < len(p)
	return len(p), nil
}

// parse reads an answer strictly: nonsense is no answer.
func parse(b []byte, boards []string) (Answer, error) {
	var a Answer
	bad := func(format string, args ...any) (Answer, error) {
		return Answer{}, errs.E(errs.Failed, "the check's answer is none: "+fmt.Sprintf(format, args...), errs.Hint("docs/checks.md, \"Your own checks\": {\"asked\": 1, \"findings\": []}"))
	}
	if !utf8.Valid(b) {
		return bad("it is no UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		if err == io.EOF {
			return bad("it wrote nothing")
		}
		return bad("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("more than one JSON object")
	}
	if a.Asked < 0 || a.Asked == 0 && a.Note == "" {
		return bad("it asked %d questions, and does not say why (note)", a.Asked)
	}
	if len(a.Findings) > maxFindings {
		return bad("%d findings, at most %d are read", len(a.Findings), maxFindings)
	}
	seen := map[string]bool{}
	for i, f := range a.Findings {
		switch {
		case f.ID == "" || len(f.ID) > 300 || strings.ContainsFunc(f.ID, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			return bad("finding %d: %q is no id", i+1, f.ID)
		case f.ID == "error" || f.ID == "missing" || f.ID == "nothing-asked":
			return bad("finding %d: the id %q has a meaning of its own", i+1, f.ID)
		case seen[f.ID]:
			return bad("finding %q is there twice", f.ID)
		case f.Text == "":
			return bad("finding %q has no text", f.ID)
		case f.Level != "" && f.Level != distro.Block && f.Level != distro.Warn && f.Level != distro.Info:
			return bad("finding %q has level %q", f.ID, f.Level)
		}
		seen[f.ID] = true
		for _, b := range f.Boards {
			if !slices.Contains(boards, b) {
				return bad("finding %q names board %q, which the series does not have", f.ID, b)
			}
		}
	}
	return a, nil
}
