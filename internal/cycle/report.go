package cycle

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"slipway/internal/check/results"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/store"
)

// Report is all that a person decides a candidate by: what `slipway check --html` shows
// on one page.
type Report struct {
	Title   string
	Build   Build
	Status  distro.Status  // of the candidate, now
	Verdict distro.Verdict // of now, as waivers expire; of a candidate that was decided on, the one of then
	Boards  []string       // in the definition's order
	Review  Review
	Sizes   []SizeLine      // over releases
	Results []results.Point // of tests over releases, the oldest first
	Trials  []Trials        // by check
	Logs    []LogEnd
	Left    int // logs that are not among Logs
}

// SizeLine is one thing's size over releases, the oldest first; the last point is the
// candidate's.
type SizeLine struct {
	Name   string // "packages", "qemux86-64/light-qemux86-64.img"
	Image  bool
	Points []SizePoint
}

// SizePoint is a size in one release, or in the candidate.
type SizePoint struct {
	Version distro.Version
	Bytes   int64
	Count   int // packages; 0 for images
}

// Trials are what one check tried on devices.
type Trials struct {
	Check  string
	Trials []distro.Trial
}

// LogEnd is the end of a log.
type LogEnd struct {
	Name  string
	Size  int64
	Text  string // the last of it
	Cut   bool   // there is more before Text
	Named bool   // a finding or a failed step names it
	Gone  bool   // nobody keeps it any more
}

// Limits of a report: a page must open on a phone.
const (
	reportReleases = 12       // before the candidate
	reportLogs     = 60       // logs shown, those first that findings name
	reportLogEnd   = 12 << 10 // bytes of each
)

// Report gathers what is known of a tested candidate. It reads records, headers and the
// ends of logs, and runs nothing.
func (w *Workspace) Report(ctx context.Context, name string) (Report, error) {
	b, err := w.candidate(ctx, name)
	if err != nil {
		return Report{}, err
	}
	if b.Candidate.Verdict == nil {
		return Report{}, errs.E(errs.Pending, fmt.Sprintf("build %s has not been tested", b.ID), errs.Hint("slipway test "+b.ID.Candidate()))
	}
	r := Report{Title: w.Definition.Title, Build: b, Verdict: w.Judge(b), Boards: w.Definition.BoardNames()}
	if r.Review, err = w.Review(ctx, string(b.ID)); err != nil {
		return r, err
	}
	r.Status = r.Review.Status
	if r.Status == distro.Approved || r.Status == distro.Rejected {
		r.Verdict = *b.Candidate.Verdict
	}
	if r.Sizes, err = w.sizes(ctx, b); err != nil {
		return r, err
	}
	for _, c := range b.Candidate.Checks {
		if len(c.Trials) > 0 {
			r.Trials = append(r.Trials, Trials{Check: c.Spec.ID, Trials: c.Trials})
		}
		for _, e := range c.Evidence {
			if e.Name != "test/"+resultsCheck+"/trend.json" {
				continue
			}
			data, err := w.readBlob(ctx, e.Digest)
			if errs.Is(err, errs.NotFound) { // collected
				continue
			}
			if err == nil {
				err = json.Unmarshal(data, &r.Results)
			}
			if err != nil {
				return r, errs.E(errs.Denied, fmt.Sprintf("%s of %s cannot be read", e.Name, b.ID.Candidate()), err)
			}
		}
	}
	r.Logs, r.Left, err = w.logEnds(ctx, b, r.Verdict)
	return r, err
}

// sizes gives the sizes of all packages together, as a device's feeds hold them, and of
// each image of the candidate, over the last releases.
func (w *Workspace) sizes(ctx context.Context, b Build) ([]SizeLine, error) {
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, err
	}
	packages := SizeLine{Name: "packages"}
	images := map[string]*SizeLine{}
	for _, i := range imagesBySize(b) {
		images[i.Name] = &SizeLine{Name: i.Name, Image: true}
	}
	var upto [][]distro.PackageRecord
	add := func(v distro.Version, records []distro.PackageRecord, build Build) {
		upto = append(upto, records)
		p := SizePoint{Version: v}
		for _, x := range feed.Newest(feed.Union(upto...)) {
			p.Bytes += x.Size
			p.Count++
		}
		packages.Points = append(packages.Points, p)
		for _, i := range imagesBySize(build) {
			if line := images[i.Name]; line != nil {
				line.Points = append(line.Points, SizePoint{Version: v, Bytes: i.Size})
			}
		}
	}
	published := slices.DeleteFunc(slices.Clone(releases), func(r Release) bool {
		return r.Status != distro.Published || r.Build == b.ID || r.Version.Compare(b.Version) >= 0
	})
	for n, r := range published {
		if len(published)-n > reportReleases {
			upto = append(upto, r.Packages)
			continue
		}
		from, err := w.Build(ctx, string(r.Build))
		if err != nil && r.Build != "" && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Invalid) { // adopted: nobody built it here
			return nil, err
		}
		add(r.Version, r.Packages, from)
	}
	add(b.Version, fresh(b.Packages), b)
	out := []SizeLine{packages}
	for _, name := range sorted(images) {
		out = append(out, *images[name])
	}
	return out, nil
}

// imagesBySize gives a build's images, named without version; small files beside them
// (lists, boot configuration) are left out.
func imagesBySize(b Build) []distro.Artifact {
	var out []distro.Artifact
	for _, a := range b.Artifacts {
		if a.Class == distro.Images && a.Size >= 1<<20 {
			a.Name = strings.ReplaceAll(a.Name, "-"+string(b.Version), "")
			out = append(out, a)
		}
	}
	return out
}

// logEnds gives the ends of the logs that a person may want: those that findings and
// trials name, then the console's, then the transcripts of checks with findings, then
// the rest. left is how many are not among them.
func (w *Workspace) logEnds(ctx context.Context, b Build, v distro.Verdict) (out []LogEnd, left int, err error) {
	named, failed := map[string]bool{}, map[string]bool{}
	for _, r := range v.Reasons {
		failed[r.Finding.Check] = true
		if r.Finding.Log != "" {
			named[r.Finding.Log] = true
		}
	}
	for _, c := range b.Candidate.Checks {
		for _, t := range c.Trials {
			for _, s := range t.Steps {
				named[s.Log] = named[s.Log] || s.Log != "" && s.Outcome == distro.StepBad
			}
		}
	}
	rank := func(l LogEntry) int {
		switch parts := strings.SplitN(l.Name, "/", 3); {
		case named[l.Name]:
			return 0
		case l.Class == distro.ConsoleLog:
			return 1
		case len(parts) == 3 && parts[0] == "test" && failed[parts[1]]:
			return 2
		}
		return 3
	}
	all := slices.DeleteFunc(w.Logs(b), func(l LogEntry) bool {
		ext := path.Ext(l.Name) // data for programs is no text to read
		return l.Class == distro.TestResults || ext == ".xml" || ext == ".json" || ext == ".svg" || l.Size == 0
	})
	slices.SortStableFunc(all, func(x, y LogEntry) int { return rank(x) - rank(y) })
	for i, l := range all {
		if i >= reportLogs {
			return out, len(all) - i, nil
		}
		end := LogEnd{Name: l.Name, Size: l.Size, Named: named[l.Name]}
		f, err := w.Blobs.Open(ctx, l.Digest)
		switch {
		case errs.Is(err, errs.NotFound):
			end.Gone = true
		case err != nil:
			return nil, 0, errs.Wrap(err, "log %s of %s", l.Name, b.ID)
		default:
			end.Text, end.Cut, err = endOf(f, reportLogEnd)
			f.Close()
			if err != nil {
				return nil, 0, errs.Wrap(err, "log %s of %s", l.Name, b.ID)
			}
		}
		out = append(out, end)
	}
	return out, 0, nil
}

// endOf reads the last n bytes, whole lines of them where there are any.
func endOf(f store.Blob, n int64) (text string, cut bool, err error) {
	from := max(0, f.Size()-n)
	data, err := io.ReadAll(io.NewSectionReader(f, from, f.Size()-from))
	if err != nil {
		return "", false, err
	}
	text = string(data)
	if from > 0 {
		if _, rest, ok := strings.Cut(text, "\n"); ok && rest != "" {
			text = rest
		}
	}
	return text, from > 0, nil
}
