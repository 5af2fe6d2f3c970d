// Package check asks a candidate questions: each check is a package of its own
// below this one, and answers with findings. What the findings mean is for the
// gate; see docs/checks.md for what each check asks.
//
//	outcomes, err := check.Run(ctx, bed, []check.Check{installs.New(), upgrades.New(), versions.New()}, levels)
//
// It fails closed: a check that returns an error, or panics, has Error set in
// its result, and the gate blocks on that.
package check

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/testresults"
)

// Check is one question. A value may be run several times, in parallel.
type Check interface {
	Spec() distro.CheckSpec
	// Run asks. Its own findings need only ID, Level, Object and Text; [Run] fills in
	// Check, Cure and Commits where they are empty. An error means that the question
	// could not be asked to its end, not that the answer is bad.
	Run(ctx context.Context, bed *Bed) (Result, error)
}

// PerBoard is what a check is when it asks about one device's feeds, and so once a
// board; others ask about all packages at once.
type PerBoard interface{ PerBoard() }

// Devices is what a check is that switches devices on. They wait as much as they
// compute, so they have as many jobs again, beside the install roots.
type Devices interface{ Devices() }

// Result is what a check found.
type Result struct {
	Asked    int    // questions asked; 0 needs a Note
	Note     string // why nothing was asked, or what was left out
	Findings []distro.Finding
	Evidence []File
	Trials   []distro.Trial // what was tried on devices, in the order of the question
	// Good are the inputs of questions whose answer was good and depends on nothing
	// else: they need not be asked again. See Bed.Answered.
	Good []distro.Digest
	// Stands are beginnings of names of evidence that an earlier test left, of this
	// candidate or of one whose answer is of use, and that still holds, since the
	// question was not asked again.
	Stands []string
}

// File is a piece of evidence on disk, below Bed.Dir.
type File struct {
	Name string // of the file, unique in the check, no folder
	Path string // absolute
	Log  string // what findings say in Log: "test/<check>/<name>"
}

// Outcome is what came of a check. Result.Evidence is empty: the caller stores
// Files as test/<check>/<name>, which is what findings say in Log, and fills it in.
type Outcome struct {
	Result distro.CheckResult
	Files  []File
	Good   []distro.Digest // of Result.Good, to be remembered
	Stands []string        // of Result.Stands
}

// Feed is where packages come from.
type Feed struct {
	Repos []dnf.Repo
	Vars  map[string]string
}

// Origin is a release that devices come from.
type Origin struct {
	Name     string // "first", "last", "random-1.7"
	Random   bool   // chosen by Bed.Seed
	Version  distro.Version
	Feed     Feed
	Packages []distro.PackageRecord // of the release, sources included or not
	// Series is that of a release of another series; its packages are then asked of its
	// feed, which has these scopes.
	Series string
	Ask    bool
	Scopes []string
}

// BootImage is an image of a board, to be booted and looked at.
type BootImage struct {
	Board, Image string        // names
	Path         string        // of the disk
	Rig          string        // what boots it: "qemu-x86_64"
	ExpectPorts  []int         // that may listen, TCP and UDP; none means 22
	Digest       distro.Digest // of the disk; "" when nobody knows it
	Unbooted     string        // why nobody boots it, though its files are looked at; "" boots
	// Command is the program that stands for a real board, absolute; then there is no Rig.
	Command string
	Hide    []string      // folders that Command must not see: those of keys
	Login   time.Duration // limit for the time to login; 0 is none
	Memory  int64         // limit for what the device uses, in bytes; 0 is none
	Log     []string      // patterns: lines of the kernel log and the console that are no finding
	Failed  []string      // patterns: services that may fail
}

// ImageContent is an image of the candidate with its packages.
type ImageContent struct {
	Board, Image string // names
	Name         string // of the artifact: "qemux86-64/light-qemux86-64-1.2.img"
	Packages     []distro.PackageRecord
}

// Origins gives those of all its packages.
func (c ImageContent) Origins() []distro.Origin {
	out := make([]distro.Origin, len(c.Packages))
	for i, p := range c.Packages {
		out[i] = p.Origin()
	}
	return out
}

// SelfUpgrade is a published image of a board, whose device is to upgrade itself
// to the candidate. Without Path no release has published it yet.
type SelfUpgrade struct {
	BootImage
	Origin   Origin                 // the release that published it, as the board's feeds hold it
	Packages []distro.PackageRecord // that the candidate offers to the board
}

// Package is the file of a package, to be closed. Its bytes are those of the artifact
// store or of the publication.
type Package interface {
	io.ReaderAt
	io.Closer
	Size() int64 // in bytes
}

// Artifact is a file that a build left.
type Artifact struct {
	distro.Artifact
	Key  string // its name without the version of the build
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Growth is a limit: more than both is too much. Zero is no limit.
type Growth struct {
	Percent int
	Bytes   int64
}

// Exceeded reports whether a thing of old bytes may not have now bytes.
func (g Growth) Exceeded(old, now int64) bool {
	return g.Percent > 0 && old > 0 && now-old > g.Bytes && (now-old)*100 > old*int64(g.Percent)
}

// Limit is how many bytes what fits its pattern may have: packages by name, or images by
// board/image.
type Limit struct {
	Package, Image string // one of them; * stands for any text
	Bytes          int64
}

// Tested is what is known of the tests of a release, or of the candidate.
type Tested struct {
	Version  distro.Version
	Runs     []testresults.Run      // as imported, without logs but the candidate's; none when nobody imported any
	Packages []distro.PackageRecord // of the release
}

// ResultsPolicy says how much weighs what has no test to compare with.
type ResultsPolicy struct{ New, Vanished distro.Level }

// Told are answers that a check only passes on.
type Told struct {
	Asked    int
	Note     string
	Findings []distro.Finding
}

// Bed is what checks work with. Packages lists all that the candidate's feed
// offers, kept packages included; Brought lists what the build itself brings, new
// or kept, also what the feed does not offer because a newer version is published
// (nil: all of Packages). Records of source packages are ignored.
type Bed struct {
	Dir       string // work folder; each check gets one of its own in it
	Tool      *dnf.Tool
	Candidate Feed
	Packages  []distro.PackageRecord
	Brought   []distro.PackageRecord
	Origins   []Origin
	Seed      uint64 // that chose the random ones of Origins; 0: there are none
	NotTried  string // why the previous series, which is asked for, could not be read; "" when it could, or is not asked for
	Board     string // name of the board whose device is asked about; "" is none
	// Services are patterns of services that an upgraded device may have otherwise than a
	// fresh one.
	Services []string
	// DeviceTests is the folder of the team's own tests of a device, absolute; "" is none.
	DeviceTests string
	// GuestTests is the folder of programs that test an upgraded guest from this machine,
	// absolute; "" is none. They must not see the folders of Hide.
	GuestTests string
	Hide       []string
	// TestTime is what one suite of a package's tests, or one question to a booted device,
	// may take; 0 is five minutes.
	TestTime time.Duration
	Images   []BootImage // of the candidate; none when it has no boards
	Contents []ImageContent
	Version  distro.Version      // of the candidate's release
	Public   distro.PublicPolicy // what may be published
	Boards   []distro.Board      // of the series; none when it has none
	// ImagePolicy is what the definition says of the rules for images (package security).
	ImagePolicy distro.ImagePolicy
	Told        map[string]Told // by check: answers that were gathered before (package told)
	// Read gives the header of one of Packages, or of an origin's; nil when nobody can.
	Read func(ctx context.Context, r distro.PackageRecord) (*rpm.Package, error)
	// Open opens the file of one of Packages, of an origin's, of First or of History; nil
	// when nobody can.
	Open func(ctx context.Context, r distro.PackageRecord) (Package, error)
	// First are the packages of the first release of the series, when that is not Base.
	First []distro.PackageRecord
	// History are all packages that were ever published in the series and still stand,
	// each version of each.
	History []distro.PackageRecord
	// Kept gives what an earlier run of the running check, or the build that brought the
	// package, kept under a name; false when nobody has it. nil: nothing is kept.
	Kept func(ctx context.Context, r distro.PackageRecord, name string) ([]byte, bool, error)
	// Artifacts are what the build left beside packages, BaseArtifacts what the build of the
	// release that it follows left, with the evidence of its checks.
	Artifacts, BaseArtifacts []Artifact
	// BaseContents are the images of that release.
	BaseContents []ImageContent
	// Growth is how much larger a thing may become.
	Growth Growth
	Limits []Limit
	// Results gives the imported results of tests: the candidate's, then those of the
	// releases before it, the last first; nil when nobody keeps any.
	Results       func(ctx context.Context) ([]Tested, error)
	ResultsPolicy ResultsPolicy
	// Recipes: a builder gives the number to all packages of a recipe, and brings those
	// alone that the targets needed: what it does not bring is not gone.
	Recipes bool
	// SelfUpgrades are those that the boards' policy asks for.
	SelfUpgrades []SelfUpgrade
	Base         []distro.PackageRecord // of the release that the candidate follows; none for the first
	Arch         string                 // of the device; "" is this machine's
	// MachineArch is the scope of the device's machine packages, with that of its SoC
	// family's behind a colon; "" is none.
	MachineArch string
	// Alone says which packages "installs" installs alone; nil is all. A package of
	// several boards' feeds need not be asked about on each.
	Alone func(distro.PackageRecord) bool
	Jobs  int // install roots at work at one time, in all checks together; at least 1
	// Inputs gives the digest of all that could take part in installing a package
	// alone, and false when that is not known; nil when nobody can tell.
	Inputs func(distro.PackageRecord) (distro.Digest, bool)
	// NoPrograms reports that no scriptlet of a package, or of anything that could take
	// part in installing it alone, is run by a program of the device; nil when nobody
	// can tell.
	NoPrograms func(distro.PackageRecord) bool
	// Answered says for which candidate a question with these inputs had a good
	// answer; nil when nothing is remembered.
	Answered func(inputs distro.Digest) (candidate string, ok bool)
	// Progress tells what is done; it may be nil. Calls never overlap.
	Progress func(check string, done, total int, text string)
	// SameButNumber tells whether two packages differ in nothing but the number that
	// the builder gave; nil when nobody can tell.
	SameButNumber func(base, candidate distro.PackageRecord) bool
	// Commits gives the commits since the last release that touch a source; it may
	// be nil.
	Commits func(source string) []string

	id      string
	slots   chan struct{}
	devices chan struct{}
	mu      *sync.Mutex
}

// Run runs the checks, side by side, and gives their outcomes in the order of
// checks. A check whose level is off is left out. The error is ctx's; whatever
// else goes wrong is in the outcomes.
func Run(ctx context.Context, bed *Bed, checks []Check, levels map[string]distro.Level) ([]Outcome, error) {
	shared := *bed
	shared.Share()
	dir, err := filepath.Abs(bed.Dir)
	if err != nil {
		return nil, err
	}
	shared.Dir = dir
	checks = slices.DeleteFunc(slices.Clone(checks), func(c Check) bool { return levels[c.Spec().ID] == distro.Off })
	outcomes := make([]Outcome, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { outcomes[i] = one(ctx, shared, c) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, errs.Wrap(context.Cause(ctx), "run the checks")
	}
	return outcomes, nil
}

// Share makes copies of the bed share its jobs, so that they may be run side by
// side.
func (b *Bed) Share() {
	if b.slots == nil {
		b.slots, b.devices, b.mu = make(chan struct{}, max(1, b.Jobs)), make(chan struct{}, max(1, b.Jobs)), &sync.Mutex{}
	}
}

func one(ctx context.Context, bed Bed, c Check) Outcome {
	spec := c.Spec()
	bed.id, bed.Dir = spec.ID, filepath.Join(bed.Dir, spec.ID)
	if _, ok := c.(Devices); ok {
		bed.slots = bed.devices
	}
	res, err := guarded(ctx, &bed, c)
	out := distro.CheckResult{Spec: spec, Asked: res.Asked, Note: res.Note, Findings: slices.Clone(res.Findings), Trials: res.Trials}
	if err != nil {
		out.Error = err.Error()
	}
	for i := range out.Findings {
		f := &out.Findings[i]
		f.Check = spec.ID
		f.Level = cmp.Or(f.Level, spec.Level)
		f.Cure = cmp.Or(f.Cure, spec.Cure)
		if f.Commits == nil && f.Source != "" && bed.Commits != nil {
			f.Commits = bed.Commits(f.Source)
		}
	}
	if out.Findings == nil {
		out.Findings = []distro.Finding{}
	}
	slices.SortStableFunc(out.Findings, func(a, b distro.Finding) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Text, b.Text))
	})
	slices.SortFunc(res.Evidence, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return Outcome{Result: out, Files: res.Evidence, Good: res.Good, Stands: res.Stands}
}

func guarded(ctx context.Context, bed *Bed, c Check) (res Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check crashed: %v", p)
		}
	}()
	if err := os.RemoveAll(bed.Dir); err != nil {
		return res, err
	}
	if err := os.MkdirAll(bed.Dir, 0o755); err != nil {
		return res, err
	}
	return c.Run(ctx, bed)
}

// Each calls do for 0 to n-1, as many side by side as the bed has jobs left, and
// waits for all; do must not call Each. It gives the first error by index; a panic is an error.
func (b *Bed) Each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		select {
		case b.slots <- struct{}{}:
		case <-ctx.Done():
			found[i] = context.Cause(ctx)
			continue
		}
		wg.Go(func() {
			defer func() { <-b.slots }()
			defer func() {
				if p := recover(); p != nil {
					found[i] = fmt.Errorf("crashed: %v", p)
				}
				if found[i] != nil {
					cancel()
				}
			}()
			found[i] = do(ctx, i)
		})
	}
	wg.Wait()
	// One failure cancels the others: the cause is the error that is no cancellation.
	for _, err := range found {
		if err != nil && errs.KindOf(err) != errs.Interrupted {
			return err
		}
	}
	return cmp.Or(found...)
}

// Tell reports progress of the running check.
func (b *Bed) Tell(done, total int, text string) {
	if b.Progress == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Progress(b.id, done, total, text)
}

// Transcript keeps text as evidence, in a file of that name.
func (b *Bed) Transcript(name, text string) (File, error) {
	f := File{Name: name, Path: filepath.Join(b.Dir, "evidence", name), Log: "test/" + b.id + "/" + name}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return f, err
	}
	return f, os.WriteFile(f.Path, []byte(text), 0o644)
}

// Binary gives the records that are no source packages, sorted by name,
// architecture and version.
func Binary(all []distro.PackageRecord) []distro.PackageRecord {
	var out []distro.PackageRecord
	for _, p := range all {
		if p.Arch != "src" && p.Arch != "nosrc" {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b distro.PackageRecord) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch), a.CompareEVR(b))
	})
	return out
}

// Few cuts a list for a finding, and says how many are left out.
func Few(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	return append(slices.Clone(list[:n]), fmt.Sprintf("and %d more", len(list)-n))
}

// Count is "1 file", "2 files".
func Count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
