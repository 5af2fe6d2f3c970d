// Package upgrades asks whether devices of earlier releases can go to the
// candidate and back: everything of the release is installed, its configuration
// edited, a real dnf upgrades to the candidate's feed and goes back to the
// release's by distro-sync. The edits must survive both ways.
package upgrades

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/testresults"
)

// New gives the check.
func New() check.Check { return upgrades{} }

type upgrades struct{}

// PerBoard makes it a check of one board.
func (upgrades) PerBoard() {}

func (upgrades) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "upgrades", Level: distro.Block,
		Asks: "does a device of each release that the policy names upgrade to the candidate, keep its edited configuration, its services and its passing tests, and come back?",
		Cure: "read the transcript; correct dependencies, Obsoletes or scriptlets of the package, and build again"}
}

// Run works on every origin in a root of its own; an origin that is both first
// and last is asked once.
func (upgrades) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	var origins []check.Origin
	for _, o := range bed.Origins {
		if i := slices.IndexFunc(origins, func(p check.Origin) bool { return p.Version == o.Version }); i >= 0 {
			origins[i].Name += "-and-" + o.Name
			continue
		}
		origins = append(origins, o)
	}
	if bed.NotTried != "" {
		// Nothing passes by accident: what is asked for and cannot be tried is said.
		res.Findings = append(res.Findings, distro.Finding{ID: "previous-series", Object: "the previous series",
			Text: "the upgrade from the previous series was not tried: " + bed.NotTried,
			Cure: "gate: {upgrade_from: {previous_feed: ...}} names its feed; or take previous_series out"})
	}
	if len(origins) == 0 {
		res.Note = "there is no release to upgrade from"
		return res, nil
	}
	journeys := make([]*journey, len(origins))
	shared := &fresh{}
	err := bed.Each(ctx, len(origins), func(ctx context.Context, i int) error {
		j := &journey{bed: bed, origin: origins[i], fresh: shared, tell: func(step int, text string) {
			bed.Tell(i*steps+step, len(origins)*steps, origins[i].Name+" "+string(origins[i].Version)+": "+text)
		}}
		journeys[i] = j
		return j.run(ctx)
	})
	for _, j := range journeys {
		if j == nil {
			continue
		}
		res.Asked += j.asked
		res.Findings = append(res.Findings, j.findings...)
		res.Evidence = append(res.Evidence, j.files...)
		res.Trials = append(res.Trials, j.trial())
		if len(j.left) > 0 {
			res.Note += fmt.Sprintf("not part of a device of %s: %s. ", j.origin.Version, strings.Join(j.left, "; "))
		}
	}
	scriptlets(bed, journeys, &res)
	if bed.Seed != 0 {
		var random []string
		for _, o := range origins {
			if o.Random {
				random = append(random, string(o.Version))
			}
		}
		res.Note += fmt.Sprintf("chosen at random: %s (seed %d; slipway test --replay takes them again). ", strings.Join(random, ", "), bed.Seed)
	}
	res.Note = strings.TrimSpace(res.Note)
	return res, err
}

const steps = 3

// trial tells what was done, for the page.
func (j *journey) trial() distro.Trial {
	t := distro.Trial{Board: j.bed.Board, Name: j.origin.Name, Version: j.origin.Version}
	bad := func(way string) bool {
		return slices.ContainsFunc(j.findings, func(f distro.Finding) bool {
			return (f.Level == "" || f.Level == distro.Block) && (f.ID == j.origin.Name+":"+way || strings.HasPrefix(f.ID, j.origin.Name+":"+way+":"))
		})
	}
	for i, way := range []string{"install", "up", "back"} {
		s := distro.TrialStep{Name: way}
		if bad(way) {
			s.Outcome = distro.StepBad
		} else if i < j.reached {
			s.Outcome = distro.StepGood
		}
		for _, f := range j.files {
			if f.Name == j.origin.Name+"-"+way+".txt" {
				s.Log = f.Log
			}
		}
		t.Steps = append(t.Steps, s)
	}
	passed, failed := 0, 0
	for _, s := range j.after {
		for _, status := range s.tests {
			switch testresults.OutcomeOf(status) {
			case testresults.Pass:
				passed++
			case testresults.Fail:
				failed++
			}
		}
	}
	if len(j.after) > 0 {
		t.Measures = append(t.Measures, distro.Measure{Name: "tests", Text: fmt.Sprintf("%d pass, %d fail", passed, failed)})
	}
	return t
}

// journey is one device's way to the candidate and back.
type journey struct {
	bed    *check.Bed
	origin check.Origin
	tell   func(step int, text string)
	root   *dnf.Root

	packages []distro.PackageRecord // that the device began with
	left     []string               // packages of the origin that it did not, and why
	baseline map[string]bool        // what rpm -Va said before anything happened
	edits    edits
	beside   []string        // files that rpm laid beside them, told already
	services declared        // that it began with
	fresh    *fresh          // a device of the candidate
	after    []suite         // the device's tests, after the upgrade
	reached  int             // steps that were done
	notRun   map[string]bool // scriptlets that could not run here
	tests    []suite         // of the device, and what came of them before the upgrade

	asked    int
	findings []distro.Finding
	files    []check.File
}

func (j *journey) run(ctx context.Context) (err error) {
	j.root, err = j.bed.Tool.NewRoot(ctx, filepath.Join(j.bed.Dir, "from-"+j.origin.Name), dnf.Options{Repos: j.origin.Feed.Repos, Vars: j.origin.Feed.Vars, Arch: j.bed.Arch, MachineArch: j.bed.MachineArch})
	if err != nil {
		return err
	}
	defer func() {
		if e := j.root.Remove(); err == nil {
			err = e
		}
	}()
	if ok, err := j.begin(ctx); !ok || err != nil {
		return err
	}
	j.reached = 1
	j.tell(1, "installed")
	if ok, err := j.forward(ctx); !ok || err != nil {
		return err
	}
	j.reached = 2
	j.tell(2, "upgraded")
	if err := j.back(ctx); err != nil {
		return err
	}
	j.reached = 3
	j.tell(3, "back again")
	return nil
}

// begin installs the origin and edits its configuration.
func (j *journey) begin(ctx context.Context) (bool, error) {
	relations, err := j.relations(ctx)
	if err != nil {
		return false, err
	}
	j.packages, j.left = relations.Together(check.Binary(j.origin.Packages))
	if len(j.packages) == 0 {
		return false, errs.E(errs.Invalid, fmt.Sprintf("release %s has no packages", j.origin.Version))
	}
	specs := make([]string, len(j.packages))
	for i, p := range j.packages {
		specs[i] = p.NEVRA()
	}
	res, err := j.root.Install(ctx, specs...)
	j.asked++
	if err != nil {
		return false, j.stopped(ctx, err, "install", "does not install any more", res)
	}
	j.ran(res)
	if j.origin.Ask { // its headers are known only now
		for i, p := range j.packages {
			if k := slices.IndexFunc(res.Now, func(q distro.PackageRecord) bool { return q.NEVRA() == p.NEVRA() }); k >= 0 {
				j.packages[i].HeaderDigest = res.Now[k].HeaderDigest
			}
		}
	}
	verify, err := j.root.VerifyAll(ctx)
	if err != nil {
		return false, err
	}
	j.baseline = map[string]bool{}
	for _, v := range verify {
		j.baseline[v.String()] = true
	}
	files, err := j.root.ConfigFiles(ctx)
	if err != nil {
		return false, err
	}
	if j.services, err = servicesOf(j.root.Path()); err != nil {
		return false, err
	}
	if j.tests, err = j.runTests(ctx, "before"); err != nil {
		return false, err
	}
	j.edits, err = edit(j.root, files)
	return err == nil, err
}

// relations reads what the origin's packages say against each other. Those of another
// series are asked of their feed, with all else that is known of them.
func (j *journey) relations(ctx context.Context) (check.Relations, error) {
	if !j.origin.Ask {
		return j.bed.Relations(ctx, j.root, j.origin.Packages)
	}
	lines, err := j.root.Repoquery(ctx, "--latest-limit=1", "--qf", `%{name}\t%{epoch}\t%{version}\t%{release}\t%{arch}`)
	if err != nil {
		return check.Relations{}, err
	}
	for _, l := range lines {
		f := strings.Split(l, "\t")
		if len(f) != 5 {
			continue
		}
		epoch, _ := strconv.Atoi(f[1])
		j.origin.Packages = append(j.origin.Packages, distro.PackageRecord{Name: f[0], Epoch: epoch, Version: f[2], Release: f[3], Arch: f[4]})
	}
	return check.ReadRelations(ctx, j.root)
}

// ran notes scriptlets that could not run.
func (j *journey) ran(res dnf.Result) {
	for _, s := range res.NotRun {
		if j.notRun == nil {
			j.notRun = map[string]bool{}
		}
		j.notRun[s] = true
	}
}

// stopped makes a finding of a dnf that failed; other errors stay errors.
func (j *journey) stopped(ctx context.Context, err error, step, text string, res dnf.Result) error {
	if ctx.Err() != nil || !errs.Is(err, errs.Failed) && !errs.Is(err, errs.Denied) {
		return err
	}
	first := len(j.findings)
	j.find(distro.Finding{ID: j.origin.Name + ":" + step, Object: "release " + string(j.origin.Version),
		Text: fmt.Sprintf("release %s %s: %s", j.origin.Version, text, check.Why(err))})
	return j.transcript(step, res.Output, first)
}

func (j *journey) find(f distro.Finding) { j.findings = append(j.findings, f) }

// transcript keeps what dnf said and points the findings from first on at it.
func (j *journey) transcript(step, text string, first int) error {
	file, err := j.bed.Transcript(j.origin.Name+"-"+step+".txt", text)
	j.files = append(j.files, file)
	for i := first; i < len(j.findings); i++ {
		j.findings[i].Log = cmp.Or(j.findings[i].Log, file.Log)
		if j.findings[i].Evidence == nil {
			j.findings[i].Evidence = check.Tail(text, 12)
		}
	}
	return err
}

// forward upgrades to the candidate.
func (j *journey) forward(ctx context.Context) (bool, error) {
	if err := j.move(j.bed.Candidate); err != nil {
		return false, err
	}
	res, err := j.root.Upgrade(ctx)
	j.asked++
	if err != nil {
		return false, j.stopped(ctx, err, "up", "does not upgrade", res)
	}
	j.ran(res)
	installed := res.Now
	relations, err := j.bed.Relations(ctx, j.root, j.bed.Packages)
	if err != nil {
		return false, err
	}
	first := len(j.findings)
	newest := check.Newest(check.Binary(j.bed.Packages))
	for _, p := range j.packages {
		j.asked++
		want, brought := newest[p.Name]
		_, obsoleted := relations.Obsoleted(p, installed)
		f := distro.Finding{ID: j.origin.Name + ":up:" + p.Name, Object: p.NEVRA(), Source: p.SourceName}
		now := check.Find(installed, p.Name)
		switch {
		case brought && check.Holds(installed, want), obsoleted && now == "not installed":
			continue
		case !brought && now == "not installed":
			f.Text = fmt.Sprintf("upgrading from %s removes %s, and nothing obsoletes it", j.origin.Version, p.NEVRA())
		case !brought:
			f.Text = fmt.Sprintf("%s of %s is not in the candidate's feed, and nothing obsoletes it: devices keep it without updates", p.NEVRA(), j.origin.Version)
			f.Cure = "let the package that takes its place say Obsoletes: " + p.Name
		default:
			f.Object, f.Source = want.NEVRA(), want.SourceName
			f.Text = fmt.Sprintf("after upgrading from %s it should be %s and is: %s", j.origin.Version, want.NEVRA(), now)
			if want.CompareEVR(p) < 0 {
				f.Text += " (the version went backwards)"
			} else if now == want.NEVRA() {
				f.Text += " with other content under the same number"
			}
		}
		j.find(f)
	}
	if err := j.sameServices(ctx, installed); err != nil {
		return false, err
	}
	if err := j.testAgain(ctx); err != nil {
		return false, err
	}
	return true, j.arrived(ctx, "up", res, first, installed)
}

// back goes to the origin's feed again.
func (j *journey) back(ctx context.Context) error {
	if err := j.move(j.origin.Feed); err != nil {
		return err
	}
	res, err := j.root.DistroSync(ctx)
	j.asked++
	if err != nil {
		return j.stopped(ctx, err, "back", "cannot be returned to from the candidate", res)
	}
	j.ran(res)
	installed := res.Now
	first := len(j.findings)
	known := map[string]bool{}
	for _, p := range j.packages {
		j.asked++
		known[p.Name] = true
		if !check.Holds(installed, p) {
			f := distro.Finding{ID: j.origin.Name + ":back:" + p.Name, Object: p.NEVRA(), Source: p.SourceName,
				Text: fmt.Sprintf("after going back to %s it should be %s and is: %s", j.origin.Version, p.NEVRA(), check.Find(installed, p.Name))}
			if check.Find(installed, p.Name) == "not installed" {
				f.Cure = fmt.Sprintf("a package that was split or renamed comes back when one part keeps the name %s and every part, that one too, says Obsoletes: %s < NEW VERSION", p.Name, p.Name)
			}
			j.find(f)
		}
	}
	var stay []string
	for _, q := range installed {
		if !known[q.Name] {
			stay = append(stay, q.NEVRA())
		}
	}
	if len(stay) > 0 {
		j.find(distro.Finding{ID: j.origin.Name + ":back:stay", Level: distro.Info, Object: "release " + string(j.origin.Version), Evidence: stay,
			Text: fmt.Sprintf("after going back to %s newer packages stay installed: %s", j.origin.Version, strings.Join(stay, " ")),
			Cure: "nothing: they stand in nobody's way; dnf remove takes them off"})
	}
	if err := j.returned(ctx, installed); err != nil {
		return err
	}
	return j.arrived(ctx, "back", res, first, installed)
}

func (j *journey) move(to check.Feed) error {
	if err := j.root.SetRepos(to.Repos); err != nil {
		return err
	}
	return j.root.SetVars(to.Vars)
}

// arrived asks what is the same in both directions: scriptlets, edited
// configuration, rpm -Va.
func (j *journey) arrived(ctx context.Context, way string, res dnf.Result, first int, installed []distro.PackageRecord) error {
	words := map[string]string{"up": "upgrading from", "back": "going back to"}[way] + " " + string(j.origin.Version)
	both := append(slices.Clone(j.packages), check.Binary(j.bed.Packages)...)
	byPackage := check.ByPackage(res.Scriptlets, both)
	for nevra, lines := range byPackage {
		f := distro.Finding{ID: j.origin.Name + ":" + way + ":scriptlet", Object: "all packages", Evidence: check.Tail(strings.Join(lines, "\n"), 12),
			Text: fmt.Sprintf("%s, a scriptlet fails: %s", words, lines[0]), Cure: "correct the scriptlet; dnf goes on without it"}
		if i := slices.IndexFunc(both, func(p distro.PackageRecord) bool { return p.NEVRA() == nevra }); i >= 0 {
			f.ID, f.Object, f.Source = f.ID+":"+both[i].Name, nevra, both[i].SourceName
			f.Text = fmt.Sprintf("%s, a scriptlet of %s fails: %s", words, nevra, lines[0])
		}
		j.find(f)
	}
	owned, err := j.root.ConfigFiles(ctx)
	if err != nil {
		return err
	}
	for _, lost := range j.edits.lost(j.root, owned) {
		source := ""
		if i := slices.IndexFunc(j.packages, func(p distro.PackageRecord) bool { return p.Name+"."+p.Arch == lost.Package }); i >= 0 {
			source = j.packages[i].SourceName
		}
		j.find(distro.Finding{ID: j.origin.Name + ":" + way + ":" + lost.Path, Object: lost.Path, Source: source,
			Text: fmt.Sprintf("%s loses the edits in %s of %s", words, lost.Path, lost.Package), Cure: "mark the file %config(noreplace), in both versions of the package"})
	}
	j.asked += len(j.edits)
	if beside, err := j.edits.beside(j.root); err != nil {
		return err
	} else if beside = slices.DeleteFunc(beside, func(f string) bool { return slices.Contains(j.beside, f) }); len(beside) > 0 {
		j.beside = append(j.beside, beside...)
		j.find(distro.Finding{ID: j.origin.Name + ":" + way + ":beside", Level: distro.Info, Object: check.Count(len(beside), "file"), Evidence: check.Few(beside, 20),
			Text: fmt.Sprintf("%s leaves configuration beside the edited files: %s", words, strings.Join(check.Few(beside, 5), ", ")),
			Cure: "nothing: a device whose file was never edited has none; say in the release's notes what an administrator must merge"})
	}
	verify, err := j.root.VerifyAll(ctx)
	if err != nil {
		return err
	}
	j.asked++
	transcript := res.Output
	for _, v := range verify {
		if j.edits.explain(v) || way == "back" && j.baseline[v.String()] {
			continue
		}
		transcript += "rpm -Va: " + v.String() + "\n"
		object := v.Path
		if object == "" {
			object = v.Problem
		}
		j.find(distro.Finding{ID: j.origin.Name + ":" + way + ":verify:" + object, Object: object, Text: fmt.Sprintf("rpm -Va, after %s: %s", words, v.String())})
	}
	var names []string
	for _, p := range installed {
		names = append(names, p.NEVRA())
	}
	transcript += "installed: " + strings.Join(names, " ") + "\n"
	return j.transcript(way, transcript, first)
}
