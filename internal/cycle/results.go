package cycle

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
	"slipway/internal/testresults"
)

// resultsCheck is the id of the check that compares imported results; a quarantine is of
// its findings alone.
const resultsCheck = "results"

// resultsHistory is how many releases a candidate's results are compared with.
const resultsHistory = 10

// strippedName ends the name of the copy of imported results that has no logs.
const strippedName = "/results.json"

// importResults keeps files of test results with a candidate, each as it is and once more
// without logs. Nothing is kept when one of them cannot be read, or is of another build:
// all findings of all files come at once. A file that is kept already is no second run.
func (w *Workspace) importResults(ctx context.Context, b Build, files []string) (Build, error) {
	var found errs.List
	var keep []distro.Artifact
	have := map[distro.Digest]bool{}
	for _, a := range b.Artifacts {
		have[a.Digest] = have[a.Digest] || a.Class == distro.TestResults
	}
	t := w.Talk.Step("import results of tests")
	runs, tests := 0, 0
	for _, file := range files {
		arts, n, err := w.keepResults(ctx, b, file)
		if err != nil {
			found = append(found, err)
			continue
		}
		if have[arts[0].Digest] {
			t.Note(file + " was imported before")
			continue
		}
		have[arts[0].Digest] = true
		keep = append(keep, arts...)
		runs += len(n)
		for _, r := range n {
			tests += len(r.Tests)
		}
	}
	if err := found.Err(); err != nil {
		t.Failed("")
		return b, err
	}
	if len(keep) == 0 {
		t.Done("nothing new")
		return b, nil
	}
	nb, err := w.update(ctx, b.ID, "results", func(x *Build) error {
		for _, a := range keep {
			if !slices.ContainsFunc(x.Artifacts, func(y distro.Artifact) bool { return y.Class == a.Class && y.Name == a.Name }) {
				x.Artifacts = append(x.Artifacts, a)
			}
		}
		return nil
	})
	return nb, end(t, err, fmt.Sprintf("%d runs with %d tests", runs, tests))
}

// keepResults reads one file and stores it, and its copy without logs.
func (w *Workspace) keepResults(ctx context.Context, b Build, file string) ([]distro.Artifact, []testresults.Run, error) {
	f, err := os.Open(file)
	if err != nil {
		kind := errs.Unavailable
		if os.IsNotExist(err) {
			kind = errs.NotFound
		}
		return nil, nil, errs.E(kind, "results of tests", err)
	}
	defer f.Close()
	runs, err := testresults.Read(&until{ctx, f}, file)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range runs {
		if err := ofAnotherBuild(b, r, file); err != nil {
			return nil, nil, err
		}
	}
	digest, size, err := store.PutFile(ctx, w.Blobs, file)
	if err != nil {
		return nil, nil, errs.Wrap(err, "keep %s", file)
	}
	var stripped bytes.Buffer
	if err := testresults.Write(&stripped, testresults.Strip(runs)); err != nil {
		return nil, nil, err
	}
	small, n, err := w.Blobs.Put(ctx, &stripped)
	if err != nil {
		return nil, nil, errs.Wrap(err, "keep %s", file)
	}
	base := filepath.Base(file)
	if "/"+base == strippedName {
		base = "testresults.json"
	}
	dir := "testresults/" + digest.Short()
	return []distro.Artifact{{Class: distro.TestResults, Name: path.Join(dir, base), Digest: digest, Size: size},
		{Class: distro.TestResults, Name: dir + strippedName, Digest: small, Size: n}}, runs, nil
}

// collectResults keeps the results of tests that a build left, as importResults does
// those that come later. Runs of other builds, which a folder that stays collects, are
// left out. What cannot be read stops no build: it is a finding of its own.
func (w *Workspace) collectResults(ctx context.Context, b Build, out distro.Output) ([]distro.Artifact, error) {
	f, err := os.Open(out.Path)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "results of tests", err)
	}
	runs, err := testresults.Read(&until{ctx, f}, out.Name)
	f.Close()
	if ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		d, size, perr := w.Blobs.Put(ctx, strings.NewReader(err.Error()+"\n"))
		return []distro.Artifact{{Class: distro.ConsoleLog, Name: unreadName, Digest: d, Size: size}}, perr
	}
	mine := slices.DeleteFunc(slices.Clone(runs), func(r testresults.Run) bool { return ofAnotherBuild(b, r, out.Name) != nil })
	file := out.Path
	if len(mine) == 0 {
		return nil, nil
	}
	if len(mine) < len(runs) {
		file = filepath.Join(w.work(b.ID), "results", "testresults.json")
		var text bytes.Buffer
		if err := testresults.Write(&text, mine); err != nil {
			return nil, err
		}
		if err := writeFile(file, &text, 0o644); err != nil {
			return nil, errs.E(errs.Unavailable, "write "+file, err)
		}
	}
	arts, _, err := w.keepResults(ctx, b, file)
	return arts, err
}

// until ends a long reading when a person wants it.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u *until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, errs.E(errs.Interrupted, "stopped")
	}
	return u.r.Read(p)
}

// ofAnotherBuild refuses results whose configuration names other commits of the build's
// layers: those are of another build. oeqa names a layer by the last part of its path.
func ofAnotherBuild(b Build, r testresults.Run, file string) error {
	said, _ := r.Configuration["LAYERS"].(map[string]any)
	commits := map[string][]string{}
	for _, l := range b.Revision.Layers {
		names := []string{l.Name, path.Base(l.Path)}
		slices.Sort(names)
		for _, n := range slices.Compact(names) {
			commits[n] = append(commits[n], l.Commit)
		}
	}
	for _, name := range sortedNames(said) {
		of, _ := said[name].(map[string]any)
		commit, _ := of["commit"].(string)
		known := commits[name]
		if commit == "" || len(known) == 0 || slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, commit) || strings.HasPrefix(commit, k) }) {
			continue
		}
		return errs.E(errs.Conflict, fmt.Sprintf("%s: run %q is of another build: it has layer %s at %.12s, candidate %s at %.12s", file, r.ID, name, commit, b.ID.Candidate(), known[0]),
			errs.Hint("test what this candidate built, or name the build that was tested"))
	}
	return nil
}

func sortedNames(m map[string]any) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// runsOf reads the imported results of a build. A run that two files hold, as a file that
// grew does, is one.
func (w *Workspace) runsOf(ctx context.Context, b Build, logs bool) ([]testresults.Run, error) {
	var out []testresults.Run
	seen := map[distro.Digest]bool{}
	for _, a := range b.Artifacts {
		if a.Class != distro.TestResults || strings.HasSuffix(a.Name, strippedName) == logs {
			continue
		}
		f, err := w.Blobs.Open(ctx, a.Digest)
		if err != nil {
			return nil, errs.Wrap(err, "results of tests of %s, %s", b.ID, a.Name)
		}
		runs, err := testresults.Read(io.NewSectionReader(f, 0, f.Size()), a.Name)
		f.Close()
		if err != nil {
			return nil, errs.E(errs.Denied, fmt.Sprintf("results of tests of %s, kept as %s, cannot be read any more", b.ID, a.Name), err)
		}
		for _, r := range runs {
			var text bytes.Buffer
			if err := testresults.Write(&text, testresults.Strip([]testresults.Run{r})); err != nil {
				return nil, err
			}
			if d := distro.DigestOf(text.Bytes()); !seen[d] {
				seen[d] = true
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// tested gives the results of a build and of the releases before it, for check.Bed.Results.
func (w *Workspace) tested(ctx context.Context, b Build, releases []Release) ([]check.Tested, error) {
	runs, err := w.runsOf(ctx, b, true)
	if err != nil {
		return nil, err
	}
	out := []check.Tested{{Version: b.Version, Runs: runs, Packages: b.Packages}}
	for _, r := range slices.Backward(releases) {
		if r.Status != distro.Published || r.Build == b.ID {
			continue
		}
		if len(out) > resultsHistory {
			break
		}
		t := check.Tested{Version: r.Version, Packages: r.Packages}
		from, err := w.Build(ctx, string(r.Build))
		switch {
		case r.Build == "" || errs.Is(err, errs.NotFound) || errs.Is(err, errs.Invalid): // adopted: nobody built it here
		case err != nil:
			return nil, err
		default:
			if t.Runs, err = w.runsOf(ctx, from, false); err != nil {
				return nil, err
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// quarantined gives an exception for each finding that is of a test in quarantine. The
// gate weighs it as it does a waiver: it expires, and every verdict shows it.
func quarantined(list []distro.Quarantine, results []distro.CheckResult) []distro.Waiver {
	var out []distro.Waiver
	for _, r := range results {
		if r.Spec.ID != resultsCheck {
			continue
		}
		for _, f := range r.Findings {
			for _, q := range list {
				if strings.HasSuffix(f.ID, ":"+f.Object) && q.Matches(f.Object) {
					f.Check = r.Spec.ID
					out = append(out, q.Waiver(f))
				}
			}
		}
	}
	return out
}

// ExportResults gives the verdict of now as a run of tests, one for each board (MACHINE
// "all" without boards), in the form of testresults.json: each check is a test, and each
// finding that blocks is one that failed. OE-Core's resulttool reads it.
func (w *Workspace) ExportResults(b Build) []testresults.Run {
	v := w.Judge(b)
	boards := w.Definition.BoardNames()
	if len(boards) == 0 {
		boards = []string{"all"}
	}
	start := b.Candidate.Tested.UTC().Format("20060102150405")
	layers := map[string]any{}
	for _, l := range b.Revision.Layers {
		layers[l.Name] = map[string]any{"commit": l.Commit}
	}
	var out []testresults.Run
	for _, board := range boards {
		r := testresults.Run{ID: "runtime_slipway-checks_" + board + "_" + start, Configuration: map[string]any{"TEST_TYPE": "runtime", "MACHINE": board, "DISTRO": b.Revision.Distribution,
			"IMAGE_BASENAME": "slipway-checks", "IMAGE_PKGTYPE": "rpm", "STARTTIME": start, "DISTRO_VERSION": string(b.Version), "LAYERS": layers}}
		for _, c := range b.Candidate.Checks {
			t := testresults.Test{Name: "slipway." + c.Spec.ID, Status: "PASSED"}
			var log []string
			for _, x := range v.Reasons {
				f := x.Finding
				if f.Check != c.Spec.ID || len(f.Boards) > 0 && !slices.Contains(f.Boards, board) {
					continue
				}
				line := fmt.Sprintf("%s %s: %s", f.Level, f.ID, f.Text)
				if x.Note != "" {
					line += " (" + x.Note + ")"
				}
				log = append(log, line)
				if x.Decides {
					t.Status = "FAILED"
					r.Tests = append(r.Tests, testresults.Test{Name: "slipway." + c.Spec.ID + "." + f.ID, Status: "FAILED", Log: f.Text + "\n" + strings.Join(f.Evidence, "\n")})
				}
			}
			switch {
			case c.Error != "":
				t.Status, log = "ERROR", append(log, c.Error)
			case t.Status == "PASSED" && c.Asked == 0:
				t.Status, log = "SKIPPED", append(log, c.Note)
			}
			if t.Status != "PASSED" {
				t.Log = strings.Join(log, "\n")
			}
			r.Tests = append(r.Tests, t)
		}
		slices.SortFunc(r.Tests, func(a, b testresults.Test) int { return strings.Compare(a.Name, b.Name) })
		r.Tests = slices.CompactFunc(r.Tests, func(a, b testresults.Test) bool { return a.Name == b.Name })
		out = append(out, r)
	}
	return out
}
