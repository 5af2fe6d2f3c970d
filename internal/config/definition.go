package config

import (
	"slices"
	"strconv"
	"time"

	"slipway/internal/distro"
)

// Definition is slipway.yaml, with every default filled in. Make it with
// [LoadDefinition] or [ParseDefinition]: a Definition that exists is valid.
type Definition struct {
	Schema       int         `json:"schema" jsonschema:"required,minimum=1,maximum=1" jsonschema_description:"Version of this format: 1."`
	Distribution string      `json:"distribution" jsonschema:"required" rule:"distribution" jsonschema_description:"Name of the distribution, as in file names and repository ids."`
	Title        string      `json:"title,omitempty" jsonschema_description:"Name for people; the distribution's name when absent."`
	Series       Series      `json:"series" jsonschema:"required"`
	Builder      Builder     `json:"builder"`
	Layers       []Layer     `json:"layers" jsonschema:"required,minItems=1" jsonschema_description:"Where recipes or specs come from, in order."`
	Conf         string      `json:"conf,omitempty" jsonschema_description:"Appended to the generated local.conf (bitbake)."`
	Boards       []Board     `json:"boards" jsonschema_description:"The machines that the series is made for."`
	Targets      []string    `json:"targets" rule:"package" jsonschema_description:"What to build; none means all that the layers have (rpmbuild)."`
	Components   []Component `json:"components" jsonschema_description:"Optional parts: further layers and targets."`
	Feeds        Feeds       `json:"feeds" jsonschema:"required"`
	Publish      Publish     `json:"publish"`
	Gate         Gate        `json:"gate"`
	Owners       []Owner     `json:"owners" jsonschema_description:"Who answers for which recipes or specs; the last entry that matches wins."`
	Security     Security    `json:"security"`

	doc *document
}

// Series is the maintained line and its lifespan.
type Series struct {
	Name                string `json:"name" jsonschema:"required" rule:"series" jsonschema_description:"The first part of every version: series 1 has releases 1.1, 1.2, ..."`
	Released            Date   `json:"released" jsonschema:"required" rule:"date" jsonschema_description:"Day of the first release."`
	SecuritySupportEnds Date   `json:"security_support_ends" jsonschema:"required" rule:"date" jsonschema_description:"Last day with security fixes."`
	Ends                Date   `json:"ends" jsonschema:"required" rule:"date" jsonschema_description:"End of life."`
}

// Builder says what builds.
type Builder struct {
	Kind    string   `json:"kind" jsonschema:"enum=bitbake,enum=rpmbuild,enum=import,default=rpmbuild" jsonschema_description:"bitbake; rpmbuild, the embedded builder; import, a deploy tree that another CI made."`
	Release string   `json:"release,omitempty" rule:"word" jsonschema_description:"Yocto release (bitbake and import)."`
	Arches  []string `json:"arches,omitempty" rule:"arch" jsonschema_description:"Architectures of packages beside noarch (rpmbuild only); x86_64 when absent."`
}

// The kinds of builders.
const (
	BitBake  = "bitbake"
	RPMBuild = "rpmbuild"
	Import   = "import"
)

// Yocto reports whether a BitBake makes what a builder of that kind gives: here, or in
// another CI.
func Yocto(kind string) bool { return kind == BitBake || kind == Import }

// Layer is a folder with recipes or specs: in the workspace's own git
// repository (Path alone) or in another one (URL).
type Layer struct {
	Name   string `json:"name" jsonschema:"required" rule:"layer"`
	URL    string `json:"url,omitempty" jsonschema_description:"Git repository; absent for a folder of the workspace."`
	Branch string `json:"branch,omitempty" rule:"ref" jsonschema_description:"Branch whose newest commit is taken."`
	Commit string `json:"commit,omitempty" rule:"commit" jsonschema_description:"Full commit id; wins over branch."`
	Path   string `json:"path,omitempty" jsonschema_description:"Folder: in the workspace, or with url in that repository."`
}

// Board is a machine.
type Board struct {
	Name      string   `json:"name" jsonschema:"required" rule:"board"`
	Support   string   `json:"support" jsonschema:"enum=supported,enum=experimental,default=supported"`
	SoCFamily string   `json:"soc_family,omitempty" rule:"board"`
	Images    []string `json:"images" rule:"package"`
	Boot      Boot     `json:"boot"`
}

// Boot says where a board is booted for tests.
type Boot struct {
	Rig string `json:"rig,omitempty" rule:"word" jsonschema_description:"Name of the test rig, for instance qemu-x86_64."`
	// Upgrade is an image of the board whose device upgrades itself to each candidate.
	Upgrade string `json:"upgrade,omitempty" rule:"package" jsonschema_description:"Image, with dnf in it, whose published device upgrades itself to each candidate and comes back."`
	// Command stands for a real board, instead of a rig.
	Command string   `json:"command,omitempty" rule:"program" jsonschema_description:"Executable of the repository that flashes a real board, switches it and shows its console; instead of a rig."`
	Login   int      `json:"login" jsonschema:"minimum=0,maximum=3600,default=0" jsonschema_description:"Seconds until ssh must answer; 0 is no limit but that of a device that never comes up."`
	Memory  Size     `json:"memory,omitempty" rule:"size" jsonschema_description:"What a booted device may use: 64M."`
	Ports   []int    `json:"ports" jsonschema_description:"TCP and UDP ports that may listen; 22 when absent."`
	Log     []string `json:"log" rule:"title" jsonschema_description:"Lines of the kernel log and of the console that are no finding; * stands for any text."`
	Failed  []string `json:"failed" rule:"title" jsonschema_description:"Services that may fail; * stands for any text."`
}

// Component is an optional part that extends the feed.
type Component struct {
	Name    string   `json:"name" jsonschema:"required" rule:"layer"`
	Layers  []Layer  `json:"layers"`
	Targets []string `json:"targets" rule:"package"`
	Enabled bool     `json:"enabled" jsonschema:"default=false"`
}

// Feeds says what clients read, and where.
type Feeds struct {
	Format  string `json:"format" jsonschema:"enum=rpm,default=rpm"`
	BaseURL string `json:"base_url" jsonschema:"required" rule:"url" jsonschema_description:"Address of the publication as clients see it, without the series: http, https or file."`
	// Separate lists the parts, of distro.Parts, whose packages have feeds of their own.
	Separate []string `json:"separate" jsonschema_description:"Parts with feeds of their own, off on devices: dbg (-dbg, -debuginfo), src (-src, -debugsource), dev (-dev, -devel, -staticdev)."`
}

// Publish says what leaves the house.
type Publish struct {
	Public  []distro.Class `json:"public" jsonschema_description:"Classes of artifacts in the publication; packages, images, sdk, sources, sbom and configuration when absent."`
	Exclude []Exclude      `json:"exclude" jsonschema_description:"What is never published; the keys of one entry must all match."`
}

// Exclude names packages by a glob; what is set must all match.
type Exclude struct {
	License      string `json:"license,omitempty"`
	LicenseFlags string `json:"license_flags,omitempty"`
	Recipe       string `json:"recipe,omitempty" jsonschema_description:"Name of a recipe or spec; * stands for any text."`
}

// Gate is the policy over the checks' findings.
type Gate struct {
	UpgradeFrom UpgradeFrom            `json:"upgrade_from"`
	Checks      map[string]CheckPolicy `json:"checks" jsonschema_description:"Check id to level: block, warn, info or off."`
	Image       ImageGate              `json:"image"`
	Growth      Growth                 `json:"growth"`
	Limits      []Limit                `json:"limits" jsonschema_description:"How large a package or an image may be at most; more blocks."`
	Review      Review                 `json:"review"`
	Results     Results                `json:"results"`
	Quarantine  []Quarantine           `json:"quarantine" jsonschema_description:"Tests that are known to be flaky: a failure of theirs does not block until the day."`
}

// Results is the policy of the check results for what has no test to compare with.
type Results struct {
	New      CheckPolicy `json:"new" jsonschema:"default=warn" jsonschema_description:"Level of failures of tests that the last release did not have: block, warn, info or off."`
	Vanished CheckPolicy `json:"vanished" jsonschema:"default=warn" jsonschema_description:"Level of tests that passed and are skipped or gone: block, warn, info or off."`
}

// Quarantine is an exception for flaky tests.
type Quarantine struct {
	Test   string `json:"test" jsonschema:"required" rule:"title" jsonschema_description:"Name of a test; * stands for any text."`
	Reason string `json:"reason" jsonschema:"required" rule:"title"`
	Until  Date   `json:"until" jsonschema:"required" rule:"date" jsonschema_description:"From this day on it counts no more."`
}

// Review says which changes ask for a person.
type Review struct {
	Score    int  `json:"score" jsonschema:"minimum=1,maximum=100000,default=30" jsonschema_description:"From how many points of risk on a component asks for a sign-off."`
	Required bool `json:"required" jsonschema:"default=false" jsonschema_description:"Whether an approval waits for the sign-offs."`
}

// Growth is how much larger a package or an image may become; more than both is told.
type Growth struct {
	Percent int `json:"percent" jsonschema:"minimum=0,maximum=1000000,default=20" jsonschema_description:"Of the size in the last release; 0 is no limit."`
	KiB     int `json:"kib" jsonschema:"minimum=0,maximum=1073741824,default=1024" jsonschema_description:"Growth in KiB that is never told."`
}

// Limit is how large what it names may be. It names packages or images.
type Limit struct {
	Package string `json:"package,omitempty" rule:"title" jsonschema_description:"Name of a package; * stands for any text. Its installed size counts."`
	Image   string `json:"image,omitempty" rule:"title" jsonschema_description:"Board and image, qemux86-64/light; * stands for any text. The size of its file counts."`
	Size    string `json:"size" jsonschema:"required" rule:"limit" jsonschema_description:"A whole number and K, M or G: 512K, 96M."`
}

// Bytes gives the limit's size; 0 for one that is none.
func (l Limit) Bytes() int64 {
	if !rules["limit"].accepts(l.Size) {
		return 0
	}
	n, _ := strconv.ParseInt(l.Size[:len(l.Size)-1], 10, 64)
	return n << map[byte]int{'K': 10, 'M': 20, 'G': 30}[l.Size[len(l.Size)-1]]
}

// Owner answers for what lies below a path.
type Owner struct {
	Path   string   `json:"path" jsonschema:"required" jsonschema_description:"Layer and path in it, with * for any text and ** for any folders: meta-halyard/recipes-core/**, halyard/specs/lib*."`
	People []string `json:"people" jsonschema:"required,minItems=1" rule:"title" jsonschema_description:"Names, as they sign off and approve."`
}

// ImageGate is the policy of the check security, whose rules docs/image-check.md
// lists.
type ImageGate struct {
	Allow  map[string]Objects     `json:"allow" jsonschema_description:"Rule to objects that are no finding; * stands for any text."`
	Levels map[string]CheckPolicy `json:"levels" jsonschema_description:"Rule to level: block, warn, info or off."`
}

// Objects are what a rule allows: paths, services, accounts.
type Objects []string

// UpgradeFrom says from which releases the upgrade is tested.
type UpgradeFrom struct {
	First          bool `json:"first" jsonschema:"default=true"`
	Last           bool `json:"last" jsonschema:"default=true"`
	Random         int  `json:"random" jsonschema:"minimum=0,maximum=100,default=0" jsonschema_description:"How many of the other releases."`
	PreviousSeries bool `json:"previous_series" jsonschema:"default=false" jsonschema_description:"The last release of the series before this one."`
	// PreviousFeed is where that series lies, when not in the workspace's publication.
	PreviousFeed string   `json:"previous_feed,omitempty" rule:"url" jsonschema_description:"Address of the previous series with its name: https://feeds.example.org/halyard/1; the workspace's own publication when absent."`
	Services     []string `json:"services" rule:"title" jsonschema_description:"Services that an upgraded device may have otherwise than a fresh one; * stands for any text."`
}

// CheckPolicy is a distro.Level, or "off".
type CheckPolicy string

// CheckOff turns a check off.
const CheckOff CheckPolicy = "off"

// Security says whom to tell, and how fast fixes come.
type Security struct {
	Contact string `json:"contact,omitempty" rule:"contact" jsonschema_description:"Mail address, or https address of a page."`
	SLA     SLA    `json:"sla"`
}

// SLA is the time to a fix by severity.
type SLA struct {
	Critical  Duration `json:"critical,omitempty" rule:"duration"`
	Important Duration `json:"important,omitempty" rule:"duration"`
	Moderate  Duration `json:"moderate,omitempty" rule:"duration"`
	Low       Duration `json:"low,omitempty" rule:"duration"`
}

// Date is a day, "2026-12-01".
type Date string

// Time gives the day's begin, UTC; the zero time for an empty Date.
func (d Date) Time() time.Time {
	t, _ := time.Parse(time.DateOnly, string(d))
	return t
}

// Duration is a whole number of hours, days or weeks: "12h", "3d", "2w".
type Duration string

// Span gives the length; 0 for an empty Duration.
func (d Duration) Span() time.Duration {
	span, _ := parseSpan(string(d))
	return span
}

// defaultPublic is what publish.public is when absent (DESIGN.md section 4).
var defaultPublic = []distro.Class{distro.Packages, distro.Images, distro.SDK, distro.Sources, distro.SBOM, distro.Configuration}

// fillIn sets the defaults that depend on other keys.
func (d *Definition) fillIn() {
	if d.Title == "" {
		d.Title = d.Distribution
	}
	if d.Builder.Kind == RPMBuild && d.Builder.Arches == nil {
		d.Builder.Arches = []string{"x86_64"}
	}
	if d.Publish.Public == nil {
		d.Publish.Public = slices.Clone(defaultPublic)
	}
	local := func(layers []Layer) {
		for i := range layers {
			if layers[i].Path == "" {
				layers[i].Path = "."
			}
		}
	}
	local(d.Layers)
	for _, c := range d.Components {
		local(c.Layers)
	}
}

// IsPublic reports whether artifacts of class are published.
func (d *Definition) IsPublic(class distro.Class) bool {
	return slices.Contains(d.Publish.Public, class)
}

// PublicPolicy gives what the rules of distro need of Publish.
func (d *Definition) PublicPolicy() distro.PublicPolicy {
	p := distro.PublicPolicy{Classes: slices.Clone(d.Publish.Public)}
	for _, x := range d.Publish.Exclude {
		p.Exclude = append(p.Exclude, distro.Exclusion(x))
	}
	return p
}

// ImagePolicy gives what the rules for images need of Gate.
func (d *Definition) ImagePolicy() distro.ImagePolicy {
	var p distro.ImagePolicy
	for rule, objects := range d.Gate.Image.Allow {
		if p.Allow == nil {
			p.Allow = map[string][]string{}
		}
		p.Allow[rule] = slices.Clone(objects)
	}
	for rule, level := range d.Gate.Image.Levels {
		if p.Levels == nil {
			p.Levels = map[string]distro.Level{}
		}
		p.Levels[rule] = distro.Level(level)
	}
	return p
}

// Quarantined gives what the gate needs of Gate.Quarantine.
func (d *Definition) Quarantined() []distro.Quarantine {
	var out []distro.Quarantine
	for _, q := range d.Gate.Quarantine {
		out = append(out, distro.Quarantine{Test: q.Test, Reason: q.Reason, Until: q.Until.Time()})
	}
	return out
}

// BoardNames gives the boards in the definition's order.
func (d *Definition) BoardNames() []string {
	names := make([]string, len(d.Boards))
	for i, b := range d.Boards {
		names[i] = b.Name
	}
	return names
}

// EnabledLayers gives the layers, with those of the enabled components after
// the definition's own; one that several name is there once.
func (d *Definition) EnabledLayers() []Layer {
	out := slices.Clone(d.Layers)
	for _, c := range d.Components {
		for _, l := range c.Layers {
			if c.Enabled && !slices.ContainsFunc(out, func(x Layer) bool { return x.Name == l.Name }) {
				out = append(out, l)
			}
		}
	}
	return out
}

// EnabledTargets gives what to build, with that of the enabled components after the
// definition's own; each once.
func (d *Definition) EnabledTargets() []string {
	out := slices.Clone(d.Targets)
	for _, c := range d.Components {
		for _, t := range c.Targets {
			if c.Enabled && !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}
