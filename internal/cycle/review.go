package cycle

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/layers"
)

// Review is what changed in a candidate, by component, the riskiest first: what a
// person should look at before the release, and what nobody needs to.
type Review struct {
	Candidate  string         `json:"candidate"`
	Build      distro.BuildID `json:"build"`
	Base       distro.Version `json:"base,omitempty"`
	Status     distro.Status  `json:"status"`   // of the candidate, now
	Score      int            `json:"score"`    // from which on a component asks for a person
	Required   bool           `json:"required"` // approve waits for the sign-offs
	Components []Component    `json:"components"`
	Blocking   int            `json:"blocking"` // findings that block, now
	Open       []string       `json:"open"`     // components that ask for a person and have no sign-off
	Same       int            `json:"same"`     // packages of the candidate with the content of the base
	General    []Pointer      `json:"general"`  // findings of no component
}

// Component is a recipe or spec that changed.
type Component struct {
	Name       string          `json:"name"`
	Paths      []string        `json:"paths"`  // layer and folder
	Owners     []string        `json:"owners"` // who answer for it, by slipway.yaml
	Score      int             `json:"score"`
	Risk       string          `json:"risk"` // "high", "medium", "low"
	Reasons    []Points        `json:"reasons"`
	Asks       bool            `json:"asks"` // for a person
	SignOff    *distro.SignOff `json:"sign_off,omitempty"`
	Packages   []PackageChange `json:"packages"`
	Commits    []string        `json:"commits"`
	Findings   []Pointer       `json:"findings"`
	Dependents []string        `json:"dependents"` // components whose packages require one of it
	Breaks     []string        `json:"breaks"`     // who breaks, as the checks say
}

// Points are one reason of a score.
type Points struct {
	Points int    `json:"points"`
	Why    string `json:"why"`
}

// Pointer names a finding.
type Pointer struct {
	Key    string       `json:"key"`
	Level  distro.Level `json:"level"`
	Text   string       `json:"text"`
	Waived bool         `json:"waived,omitempty"`
}

// Review ranks what a candidate changes. It reads headers and records, and runs nothing.
func (w *Workspace) Review(ctx context.Context, name string) (Review, error) {
	b, err := w.candidate(ctx, name)
	if err != nil {
		return Review{}, err
	}
	st, err := w.candidateStatus(ctx, b)
	if err != nil {
		return Review{}, err
	}
	verdict := w.Judge(b) // of now: waivers expire, a policy may have changed
	if st == distro.Ready && verdict.Status == distro.Blocked {
		st = distro.Blocked
	}
	policy := w.Definition.Gate.Review
	r := Review{Candidate: b.ID.Candidate(), Build: b.ID, Base: b.Base, Status: st, Score: policy.Score, Required: policy.Required, Components: []Component{}, Open: []string{}, General: []Pointer{}}
	to, err := w.side(ctx, string(b.ID))
	if err != nil {
		return r, err
	}
	from := side{}
	if b.Base != "" {
		if from, err = w.side(ctx, string(b.Base)); err != nil {
			return r, err
		}
	}
	diff, sources, err := w.difference(ctx, from, to)
	if err != nil {
		return r, err
	}
	r.Same = diff.Same
	by := map[string]*Component{}
	of := func(source string) *Component {
		c := by[source]
		if c == nil {
			c = &Component{Name: source, Paths: []string{}, Owners: []string{}, Reasons: []Points{}, Packages: []PackageChange{}, Commits: []string{}, Findings: []Pointer{}, Dependents: []string{}, Breaks: []string{}}
			by[source] = c
		}
		return c
	}
	for _, p := range diff.Packages {
		if source := sources[p.Name+"."+p.Arch]; p.Arch != "src" && p.Arch != "nosrc" {
			c := of(source)
			c.Packages = append(c.Packages, p)
		}
	}
	known := map[string]bool{}
	for _, p := range slices.Concat(to.records, from.records) {
		known[p.SourceName] = true
	}
	for _, reason := range verdict.Reasons {
		f := reason.Finding
		if reason.Decides {
			r.Blocking++
		}
		p := Pointer{Key: f.Key(), Level: f.Level, Text: f.Text, Waived: reason.Waived != nil}
		if f.Source == "" || !known[f.Source] {
			r.General = append(r.General, p)
			continue
		}
		c := of(f.Source)
		c.Findings = append(c.Findings, p)
		if f.Check == "abi" {
			c.Breaks = append(c.Breaks, breaking(f)...)
		}
	}
	if err := w.dependents(ctx, to, by); err != nil {
		return r, err
	}
	inImages := map[string]int{}
	contents, err := w.imageContents(ctx, b)
	if err != nil {
		return r, err
	}
	for _, image := range contents {
		seen := map[string]bool{}
		for _, p := range image.Packages {
			if !seen[p.SourceName] {
				seen[p.SourceName] = true
				inImages[p.SourceName]++
			}
		}
	}
	for _, c := range by {
		for _, l := range b.Revision.Layers {
			for _, p := range w.sourcePaths(b, l, c.Name) {
				if rel := strings.TrimPrefix(strings.TrimPrefix(p, l.Path), "/"); w.layerHas(ctx, b, l, c.Name) {
					c.Paths = append(c.Paths, path.Join(l.Name, rel))
				}
			}
		}
		if owners := w.Definition.OwnersOf(c.Paths...); owners != nil {
			c.Owners = owners
		}
		if commits := w.commits(ctx, b, c.Name); b.Base != "" && commits != nil {
			c.Commits = commits
		}
		c.rate(b.Base == "", inImages[c.Name])
		c.Asks = b.Base != "" && c.Score >= policy.Score
		if i := slices.IndexFunc(b.Candidate.SignOffs, func(s distro.SignOff) bool { return s.Component == c.Name && s.Score >= c.Score }); i >= 0 {
			c.SignOff = &b.Candidate.SignOffs[i]
		}
		r.Components = append(r.Components, *c)
	}
	slices.SortFunc(r.Components, func(a, b Component) int { return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Name, b.Name)) })
	for _, c := range r.Components {
		if c.Asks && c.SignOff == nil {
			r.Open = append(r.Open, c.Name)
		}
	}
	return r, nil
}

// layerHas reports whether a layer, as it was built, has a folder of the source.
func (w *Workspace) layerHas(ctx context.Context, b Build, l distro.LayerPin, source string) bool {
	if w.yocto() {
		return true // sourcePaths found the folder
	}
	i := slices.IndexFunc(b.Revision.Layers, func(p distro.LayerPin) bool { return p.Name == l.Name })
	if i >= len(w.Definition.Layers) {
		return false
	}
	repo, err := layers.Repository(ctx, w.Dir, layerOf(w.Definition.Layers[i]))
	if err != nil {
		return false
	}
	log, err := layers.Log(ctx, repo, "", l.Commit, path.Join(l.Path, "specs", source))
	return err == nil && len(log) > 0
}

// breaking gives the lines of a finding's evidence that say who breaks.
func breaking(f distro.Finding) []string {
	var out []string
	for _, e := range f.Evidence {
		if strings.Contains(e, " uses ") || strings.Contains(e, " needs ") || strings.Contains(e, " requires ") {
			out = append(out, e)
		}
	}
	return out
}

// dependents finds, for each component that changes, the components whose packages
// require one of its packages.
func (w *Workspace) dependents(ctx context.Context, to side, by map[string]*Component) error {
	provider := map[string]string{} // what is provided -> component
	type need struct{ source, name string }
	var needs []need
	for _, p := range check.Binary(to.records) {
		h, err := to.read(ctx, p)
		if err != nil {
			return err
		}
		if by[p.SourceName] != nil {
			for _, d := range h.Provides {
				provider[d.Name] = p.SourceName
			}
			for _, f := range h.Files {
				if !f.IsDir() {
					provider[f.Path] = p.SourceName
				}
			}
		}
		for _, d := range h.Requires {
			needs = append(needs, need{p.SourceName, d.Name})
		}
	}
	for _, n := range needs {
		c := by[provider[n.name]]
		if c != nil && c.Name != n.source && !slices.Contains(c.Dependents, n.source) {
			c.Dependents = append(c.Dependents, n.source)
		}
	}
	for _, c := range by {
		slices.Sort(c.Dependents)
	}
	return nil
}

// Limits of the classes of risk.
const (
	highRisk   = 60
	mediumRisk = 30
)

// rate gives the score: the sum of the points of all reasons. docs/review.md lists them.
func (c *Component) rate(first bool, images int) {
	add := func(points int, format string, args ...any) {
		c.Reasons = append(c.Reasons, Points{points, fmt.Sprintf(format, args...)})
		c.Score += points
	}
	warn := 0
	for _, f := range c.Findings {
		switch {
		case f.Waived:
			add(60, "waived: %s", f.Key)
		case f.Level == distro.Block:
			add(100, "blocks: %s: %s", f.Key, f.Text)
		case f.Level == distro.Warn && strings.HasPrefix(f.Key, "inspect/") && strings.HasSuffix(f.Key, ":setuid"):
			add(40, "%s: %s", f.Key, f.Text)
		case f.Level == distro.Warn && warn < 3:
			warn++
			add(25, "%s: %s", f.Key, f.Text)
		}
	}
	added, gone, scripts, files, major, minor := 0, 0, 0, 0, "", ""
	for _, p := range c.Packages {
		files += len(p.FilesAdded) + len(p.FilesGone) + len(p.FilesChanged)
		switch p.Change {
		case "added":
			added++
		case "gone":
			gone++
		}
		if len(p.Scripts) > 0 {
			scripts++
		}
		if p.Change == "changed" {
			old, now := upstream(p.Old), upstream(p.New)
			if o, n := strings.SplitN(old, ".", 3), strings.SplitN(now, ".", 3); old != now {
				if o[0] != n[0] {
					major = old + " to " + now
				} else {
					minor = old + " to " + now
				}
			}
		}
	}
	if scripts > 0 {
		add(20, "scripts that run as root on every device changed, in %d packages", scripts)
	}
	switch {
	case major != "":
		add(20, "another main version: %s", major)
	case minor != "":
		add(8, "another version: %s", minor)
	}
	if added > 0 && !first {
		add(10, "%d new packages", added)
	}
	if gone > 0 {
		add(15, "%d packages are gone", gone)
	}
	switch n := len(c.Dependents); {
	case n >= 10:
		add(20, "%d other components depend on it", n)
	case n > 0:
		add(8, "other components depend on it: %s", strings.Join(c.Dependents[:min(n, 5)], ", "))
	}
	if images > 0 && len(c.Packages) > 0 {
		add(5, "it is in %d images", images)
	}
	if files >= 100 {
		add(5, "%d files changed", files)
	}
	if len(c.Commits) >= 10 {
		add(10, "%d commits", len(c.Commits))
	}
	c.Risk = "low"
	switch {
	case c.Score >= highRisk:
		c.Risk = "high"
	case c.Score >= mediumRisk:
		c.Risk = "medium"
	}
}

// upstream takes epoch and release off a version.
func upstream(evr string) string {
	if _, rest, ok := strings.Cut(evr, ":"); ok {
		evr = rest
	}
	v, _, _ := strings.Cut(evr, "-")
	return v
}

// SignOff records that a named person has looked at a component of a candidate. The
// same person and component again replaces the text.
func (w *Workspace) SignOff(ctx context.Context, name string, s distro.SignOff) (Review, error) {
	if strings.TrimSpace(s.By) == "" {
		return Review{}, errs.E(errs.Invalid, "a sign-off needs a name", errs.Hint("slipway review "+name+" --sign-off "+s.Component+" --by \"Your Name\""))
	}
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return Review{}, err
	}
	defer lock.Release()
	r, err := w.Review(ctx, name)
	if err != nil {
		return r, err
	}
	if r.Status == distro.Approved || r.Status == distro.Rejected || r.Status == distro.Stale {
		return r, errs.E(errs.Conflict, fmt.Sprintf("candidate %s is %s: a sign-off changes nothing any more", r.Candidate, r.Status))
	}
	var names []string
	for _, c := range r.Components {
		names = append(names, c.Name)
		if c.Name == s.Component {
			s.Score = c.Score
		}
	}
	if !slices.Contains(names, s.Component) {
		hint := errs.Hint("slipway review " + r.Candidate + " lists the components that changed")
		if n := errs.Near(s.Component, names); n != "" {
			hint = errs.Hintf("did you mean %q?", n)
		}
		return r, errs.E(errs.NotFound, fmt.Sprintf("candidate %s changes no component %q", r.Candidate, s.Component), hint)
	}
	s.At = w.now()
	if _, err := w.update(ctx, r.Build, "signed off", func(x *Build) error {
		all := slices.DeleteFunc(slices.Clone(x.Candidate.SignOffs), func(o distro.SignOff) bool { return o.Component == s.Component && o.By == s.By })
		x.Candidate.SignOffs = append(all, s)
		slices.SortFunc(x.Candidate.SignOffs, func(a, b distro.SignOff) int {
			return cmp.Or(cmp.Compare(a.Component, b.Component), a.At.Compare(b.At), cmp.Compare(a.By, b.By))
		})
		return nil
	}); err != nil {
		return r, err
	}
	return w.Review(ctx, string(r.Build))
}

// reviewed refuses an approval while sign-offs that the policy requires are missing.
func (w *Workspace) reviewed(ctx context.Context, b Build) error {
	if !w.Definition.Gate.Review.Required {
		return nil
	}
	r, err := w.Review(ctx, string(b.ID))
	if err != nil || len(r.Open) == 0 {
		return err
	}
	return errs.E(errs.Refused, fmt.Sprintf("candidate %s waits for %d sign-offs: %s", r.Candidate, len(r.Open), strings.Join(r.Open, ", ")),
		errs.Hint("slipway review "+r.Candidate+" says why"), errs.Hintf("slipway review %s --sign-off %s --by \"Your Name\"", r.Candidate, r.Open[0]))
}
