// Package installs asks whether a device can install what the candidate brings:
// every package alone into an empty root, and all together into one, by a real
// dnf from the candidate's feed, with signatures checked.
//
// A package that installed alone for an earlier candidate, and for which nothing
// that could take part has changed since, is not asked about again.
package installs

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
)

// New gives the check.
func New() check.Check { return installs{} }

type installs struct{}

// PerBoard makes it a check of one board.
func (installs) PerBoard() {}

func (installs) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "installs", Level: distro.Block,
		Asks: "does every package install, alone and all together, from the signed feed, without errors of scriptlets?",
		Cure: "read the transcript; correct the dependencies, the files or the scriptlets of the package, and build again"}
}

// Run makes one root with the feed's metadata and clones it for every question.
func (installs) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	packages := check.Binary(bed.Packages)
	if len(packages) == 0 {
		return res, errs.E(errs.Invalid, "the candidate has no packages")
	}
	base, err := bed.Tool.NewRoot(ctx, filepath.Join(bed.Dir, "base"), dnf.Options{Repos: bed.Candidate.Repos, Vars: bed.Candidate.Vars, Arch: bed.Arch, MachineArch: bed.MachineArch})
	if err != nil {
		return res, err
	}
	defer func() { _ = base.Remove() }()
	if err := base.Refresh(ctx); err != nil {
		if !errs.Is(err, errs.Denied) && !errs.Is(err, errs.Failed) {
			return res, err
		}
		res.Asked = 1
		res.Findings = []distro.Finding{{ID: "feed", Object: "candidate feed", Text: "dnf refuses the feed: " + err.Error(), Cure: "the feed's metadata must be there and signed by the candidate key"}}
		return res, nil
	}
	relations, err := bed.Relations(ctx, base, bed.Packages)
	if err != nil {
		return res, err
	}
	together, left := relations.Together(packages)
	if len(left) > 0 {
		res.Note = "not installed together: " + strings.Join(left, "; ")
	}
	r := &run{bed: bed, base: base, packages: packages, total: len(packages) + 1, ids: map[string]bool{}}
	answers := make([]answer, len(packages)+1)
	err = bed.Each(ctx, len(answers), func(ctx context.Context, i int) (err error) {
		// All together takes longest, so it comes first.
		if i == 0 {
			answers[i], err = r.together(ctx, together)
			return err
		}
		p := packages[i-1]
		if bed.Alone != nil && !bed.Alone(p) {
			answers[i] = answer{summary: fmt.Sprintf("%s: asked on another board\n", p.NEVRA())}
		} else if by, ok := relations.Obsoleted(p, packages); ok {
			answers[i] = answer{summary: fmt.Sprintf("%s: not asked, obsoleted by %s\n", p.NEVRA(), by.NEVRA())}
		} else if inputs, known := r.inputs(p); !known {
			answers[i], err = r.alone(ctx, p)
		} else if candidate, ok := bed.Answered(inputs); ok {
			answers[i] = answer{summary: fmt.Sprintf("%s: installed for %s, and nothing that takes part has changed\n", p.NEVRA(), candidate), kept: true}
		} else if answers[i], err = r.alone(ctx, p); err == nil && len(answers[i].findings) == 0 {
			answers[i].good = inputs
		}
		r.tell(p.NEVRA())
		return err
	})
	var summary strings.Builder
	kept := 0
	for _, a := range answers {
		if a.good != "" {
			res.Good = append(res.Good, a.good)
		}
		if a.kept {
			kept++
		}
		res.Asked += a.asked
		res.Evidence = append(res.Evidence, a.files...)
		summary.WriteString(a.summary)
		for _, f := range a.findings {
			// A dependency's broken scriptlet shows in every root that it comes into.
			if !r.ids[f.ID] {
				r.ids[f.ID] = true
				res.Findings = append(res.Findings, f)
			}
		}
	}
	if err != nil {
		return res, err
	}
	if kept > 0 {
		if res.Note != "" {
			res.Note += "; "
		}
		res.Note += fmt.Sprintf("%d packages not asked about again: nothing that takes part has changed", kept)
	}
	file, err := bed.Transcript("alone.txt", summary.String())
	res.Evidence = append(res.Evidence, file)
	return res, err
}

type run struct {
	bed      *check.Bed
	base     *dnf.Root
	packages []distro.PackageRecord
	total    int
	ids      map[string]bool

	mu   sync.Mutex
	done int
}

type answer struct {
	asked    int
	findings []distro.Finding
	files    []check.File
	summary  string
	good     distro.Digest // inputs of a good answer that may be remembered
	kept     bool          // the good answer of an earlier candidate stands
}

// question changes when what is asked of a package does: old answers are void then.
const question = "installs alone, 1"

// inputs gives everything that decides the answer for a package alone.
func (r *run) inputs(p distro.PackageRecord) (distro.Digest, bool) {
	if r.bed.Inputs == nil || r.bed.Answered == nil {
		return "", false
	}
	packages, ok := r.bed.Inputs(p)
	if !ok {
		return "", false
	}
	return distro.DigestOf([]byte(strings.Join([]string{question, r.bed.Tool.Version, r.bed.Tool.RPM, r.bed.Arch, r.bed.MachineArch, string(packages)}, "\n"))), true
}

func (r *run) tell(text string) {
	r.mu.Lock()
	r.done++
	done := r.done
	r.mu.Unlock()
	r.bed.Tell(done, r.total, text)
}

func id(p distro.PackageRecord) string { return p.Name + "." + p.Arch }

// install clones the base, installs, and gives the root, which the caller removes.
func (r *run) install(ctx context.Context, name string, noPrograms bool, specs []string) (root *dnf.Root, res dnf.Result, failed, err error) {
	if root, err = r.base.Clone(ctx, filepath.Join(r.bed.Dir, name)); err != nil {
		return nil, res, nil, err
	}
	root.NoPrograms = noPrograms
	res, failed = root.Install(ctx, specs...)
	if ctx.Err() != nil {
		_ = root.Remove()
		return nil, res, nil, failed
	}
	return root, res, failed, nil
}

func (r *run) alone(ctx context.Context, p distro.PackageRecord) (answer, error) {
	root, res, failed, err := r.install(ctx, "alone-"+p.NEVRA(), r.bed.NoPrograms != nil && r.bed.NoPrograms(p), []string{p.NEVRA()})
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = root.Remove() }()
	a := answer{asked: 1}
	switch {
	case failed != nil:
		a.findings = append(a.findings, distro.Finding{ID: id(p), Object: p.NEVRA(), Source: p.SourceName, Text: p.NEVRA() + " does not install alone: " + check.Why(failed)})
	case !check.Holds(res.Now, p):
		a.findings = append(a.findings, distro.Finding{ID: id(p), Object: p.NEVRA(), Source: p.SourceName,
			Text: fmt.Sprintf("%s was asked for, and dnf is content, but it is not what is installed: %s", p.NEVRA(), check.Find(res.Now, p.Name))})
	default:
		var with []string
		for _, q := range res.Now {
			if q.NEVRA() != p.NEVRA() {
				with = append(with, q.NEVRA())
			}
		}
		a.summary = fmt.Sprintf("%s: installs, with %d others: %s\n", p.NEVRA(), len(with), strings.Join(with, " "))
	}
	a.findings = append(a.findings, scriptlets(res, r.packages, p)...)
	if len(a.findings) > 0 {
		a.summary = p.NEVRA() + ": see its transcript\n"
		err = a.evidence(r.bed, "alone-"+p.NEVRA()+".txt", res.Output)
	}
	return a, err
}

func (r *run) together(ctx context.Context, packages []distro.PackageRecord) (answer, error) {
	specs := make([]string, len(packages))
	for i, p := range packages {
		specs[i] = p.NEVRA()
	}
	root, res, failed, err := r.install(ctx, "together", false, specs)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = root.Remove() }()
	a := answer{asked: 1}
	transcript := res.Output
	if failed != nil {
		a.findings = append(a.findings, distro.Finding{ID: "together", Object: "all packages", Text: "the packages do not install together: " + check.Why(failed),
			Cure: "two packages with the same file, or that exclude each other, must say so with Conflicts or Obsoletes"})
	} else {
		for _, p := range packages {
			if !check.Holds(res.Now, p) {
				a.findings = append(a.findings, distro.Finding{ID: "together:" + id(p), Object: p.NEVRA(), Source: p.SourceName,
					Text: fmt.Sprintf("%s is missing when all are installed together: %s", p.NEVRA(), check.Find(res.Now, p.Name))})
			}
		}
		verify, err := root.VerifyAll(ctx)
		if err != nil {
			return a, err
		}
		a.asked++
		for _, v := range verify {
			transcript += "rpm -Va: " + v.String() + "\n"
			object := v.Path
			if object == "" {
				object = v.Problem
			}
			a.findings = append(a.findings, distro.Finding{ID: "together:" + object, Object: object, Text: "rpm -Va, straight after installing: " + v.String(),
				Cure: "a scriptlet changes a file that a package owns, or two packages own it: leave it alone, or mark it %ghost or %verify(not md5 size mtime) if that is meant"})
		}
	}
	a.findings = append(a.findings, scriptlets(res, r.packages, distro.PackageRecord{})...)
	if len(res.Talk) > 0 {
		level := distro.Info
		if slices.ContainsFunc(res.Talk, func(l string) bool { return strings.HasPrefix(l, "warning:") }) {
			level = distro.Warn
		}
		a.findings = append(a.findings, distro.Finding{ID: "together:talk", Level: level, Object: "all packages", Evidence: check.Tail(strings.Join(res.Talk, "\n"), 12),
			Text: "scriptlets or rpm say something while installing: " + res.Talk[0], Cure: "a scriptlet that succeeds is silent"})
	}
	err = a.evidence(r.bed, "together.txt", transcript)
	r.tell("all together")
	return a, err
}

// evidence keeps a transcript and lets every finding so far point at it.
func (a *answer) evidence(bed *check.Bed, name, text string) error {
	file, err := bed.Transcript(name, text)
	a.files = append(a.files, file)
	for i := range a.findings {
		a.findings[i].Log = file.Log
		if a.findings[i].Evidence == nil {
			a.findings[i].Evidence = check.Tail(text, 12)
		}
	}
	return err
}

// scriptlets gives a finding per package whose scriptlets failed; alone is whom to
// name when the lines name nobody.
func scriptlets(res dnf.Result, packages []distro.PackageRecord, alone distro.PackageRecord) []distro.Finding {
	var all []distro.Finding
	for nevra, lines := range check.ByPackage(res.Scriptlets, packages) {
		f := distro.Finding{ID: "scriptlet", Object: "all packages", Text: "a scriptlet failed: " + lines[0], Evidence: check.Tail(strings.Join(lines, "\n"), 12)}
		whose := alone
		if i := slices.IndexFunc(packages, func(p distro.PackageRecord) bool { return p.NEVRA() == nevra }); i >= 0 {
			whose = packages[i]
		}
		if whose.Name != "" {
			f.ID, f.Object, f.Source = id(whose)+":scriptlet", whose.NEVRA(), whose.SourceName
			f.Text = fmt.Sprintf("a scriptlet of %s fails: %s", whose.NEVRA(), lines[0])
		}
		f.Cure = "correct the scriptlet; dnf installs the package all the same, half set up"
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b distro.Finding) int { return strings.Compare(a.ID, b.ID) })
	return all
}
