// Package security asks whether an image is safe from the first second, by reading
// its root file system: passwords and keys that every copy would have, programs with
// more rights than they should have, feeds without signatures, traces of a
// development build, services, and whether what it says of itself is so.
//
//	report, err := security.Examine(ctx, "core-image.wic.gz", security.Options{})
//
// [Examine] takes any image that package imagefs can read, and needs nothing else.
// What an image does not have (accounts, an rpm database, an init) is a note.
// [New] is the same as a check of a candidate. docs/image-check.md lists the rules.
package security

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/imagefs"
)

// Policy changes what is built in.
type Policy = distro.ImagePolicy

// Package is one that an image should have.
type Package struct {
	Name, EVR, Arch string // EVR "" when only the version is known
	Version         string
	HeaderDigest    distro.Digest // "" when not known
}

// Manifest is what an image's maker says of it.
type Manifest struct {
	From     string // where it stands, for messages
	Version  string // VERSION_ID of os-release; "" when not said
	Digest   distro.Digest
	Packages []Package
}

// Options of [Examine].
type Options struct {
	Policy Policy
	// Manifest is compared with the image. Without it, a file beside the image is
	// looked for: <image>.json of ours, or <image>.manifest of OpenEmbedded.
	Manifest *Manifest
	// NoManifest looks for none.
	NoManifest bool
}

// Finding is one thing that a person should know of.
type Finding struct {
	ID     string       `json:"id"` // rule:object, with pN/ before the object on a disk with several file systems
	Rule   string       `json:"rule"`
	Level  distro.Level `json:"level"`
	Object string       `json:"object"`         // a path without /, or an account, a feed, a service, a package
	Path   string       `json:"path,omitempty"` // in the image
	Line   int          `json:"line,omitempty"`
	Part   int          `json:"partition,omitempty"`
	Text   string       `json:"text"`
	Cure   string       `json:"cure"`
}

// PartReport says what was seen of a partition, or of the one file system.
type PartReport struct {
	Number int    `json:"number,omitempty"`
	Name   string `json:"name,omitempty"`
	Kind   string `json:"kind"`
	Size   int64  `json:"size,omitempty"`
	Files  int    `json:"files"`
	Root   bool   `json:"root"`          // it holds a root file system
	Why    string `json:"why,omitempty"` // it was not read
}

// Report is what came of one image.
type Report struct {
	Schema   int           `json:"schema"` // 1
	File     string        `json:"file"`
	Kind     string        `json:"kind"`
	Size     int64         `json:"size"`
	Status   distro.Status `json:"status"` // ready or blocked
	Parts    []PartReport  `json:"parts"`
	Files    int           `json:"files"`
	Asked    int           `json:"asked"` // rules, each once for each file system
	Findings []Finding     `json:"findings"`
	Notes    []string      `json:"notes"` // what the image does not have, so that nothing was asked of it
}

// Blocking counts the findings that block.
func (r *Report) Blocking() int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == distro.Block {
			n++
		}
	}
	return n
}

// most findings of one rule that are listed one by one.
const most = 50

// examiner collects what the rules say of one image.
type examiner struct {
	policy   Policy
	report   *Report
	found    map[string][]Finding // by rule
	ids      map[string]bool
	prefixes bool // ids name the partition
}

// Examine reads an image and asks all rules. An image that cannot be read is an
// error, one that is truncated or damaged included; what the rules find is none.
func Examine(ctx context.Context, name string, o Options) (*Report, error) {
	if err := o.Policy.Err(RuleIDs()); err != nil {
		return nil, err
	}
	c, err := imagefs.OpenContents(ctx, name)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	x := &examiner{policy: o.Policy, report: &Report{Schema: 1, File: filepath.Base(name), Kind: c.Kind, Size: c.Size, Status: distro.Ready, Findings: []Finding{}, Notes: []string{}},
		found: map[string][]Finding{}, ids: map[string]bool{}}
	var trees []*tree
	for i := range c.Parts {
		p := &c.Parts[i]
		if p.Readable() {
			x.prefixes = x.prefixes || len(trees) > 0
			t, err := collect(ctx, p)
			if err != nil {
				return nil, errs.Wrap(err, "image %s, %s", name, p)
			}
			trees = append(trees, t)
			x.report.Files += len(t.names)
		}
		r := PartReport{Number: p.Number, Name: p.Name, Kind: p.Kind, Size: p.Size, Why: p.Why}
		if p.Readable() {
			r.Files, r.Root = len(trees[len(trees)-1].names), trees[len(trees)-1].root
		}
		x.report.Parts = append(x.report.Parts, r)
	}
	x.unread(c.Parts)
	manifest := o.Manifest
	if manifest == nil && !o.NoManifest {
		if manifest, err = findManifest(name); err != nil {
			return nil, err
		}
	}
	roots := 0
	for _, t := range trees {
		x.everywhere(t)
		if t.root {
			roots++
			x.system(t, manifest)
		}
	}
	if roots == 0 {
		x.note("no root file system in it (neither /etc nor /usr): it was looked at as data")
	}
	if manifest == nil {
		x.note("no manifest beside the image: its packages are not compared")
	} else if err := x.digest(name, manifest); err != nil {
		return nil, err
	}
	x.finish()
	return x.report, ctx.Err()
}

func (x *examiner) note(text string) {
	if !slices.Contains(x.report.Notes, text) {
		x.report.Notes = append(x.report.Notes, text)
	}
}

// ask counts a rule as asked of a file system.
func (x *examiner) ask(rules ...string) { x.report.Asked += len(rules) }

// at says where a finding is.
type at struct {
	t    *tree
	path string
	line int
	part int // without a tree: the partition
}

// find adds a finding of a rule; level is the rule's own when empty.
func (x *examiner) find(rule, object string, where at, level distro.Level, format string, args ...any) {
	r, ok := ruleByID[rule]
	if !ok {
		panic("security: no rule " + rule) // in our own source
	}
	if allowed(x.policy, rule, object) {
		return
	}
	f := Finding{Rule: rule, Level: cmp.Or(x.policy.Levels[rule], level, r.Level), Object: object, Path: where.path, Line: where.line, Part: where.part, Text: fmt.Sprintf(format, args...), Cure: r.Cure}
	name := object
	if where.t != nil {
		if f.Part = where.t.part.Number; x.prefixes && f.Part > 0 {
			name = fmt.Sprintf("p%d/%s", f.Part, object)
		}
	}
	f.ID = rule + ":" + name
	if f.Level == distro.Off || x.ids[f.ID] {
		return
	}
	x.ids[f.ID] = true
	x.found[rule] = append(x.found[rule], f)
}

// finish sorts, and cuts what is too long to read.
func (x *examiner) finish() {
	for _, r := range Rules {
		l := x.found[r.ID]
		slices.SortStableFunc(l, func(a, b Finding) int {
			return cmp.Or(rank(a.Level)-rank(b.Level), cmp.Compare(a.Part, b.Part), cmp.Compare(a.Object, b.Object))
		})
		if len(l) > most {
			rest := l[most:]
			more := Finding{ID: r.ID + ":more", Rule: r.ID, Level: rest[0].Level, Object: "more", Cure: r.Cure,
				Text: fmt.Sprintf("and %d more, the next is %s", len(rest), rest[0].Object)}
			l = append(l[:most:most], more)
		}
		x.report.Findings = append(x.report.Findings, l...)
	}
	slices.SortStableFunc(x.report.Findings, func(a, b Finding) int { return rank(a.Level) - rank(b.Level) })
	slices.Sort(x.report.Notes)
	if x.report.Blocking() > 0 {
		x.report.Status = distro.Blocked
	}
}

func rank(l distro.Level) int {
	return slices.Index([]distro.Level{distro.Block, distro.Warn, distro.Info}, l)
}

// unread tells of partitions that hold something, and could not be looked into.
func (x *examiner) unread(parts []imagefs.Part) {
	x.ask("unread")
	for i := range parts {
		p := &parts[i]
		if p.Readable() || p.Harmless {
			continue
		}
		level := distro.Block
		if p.Kind == "unknown" {
			level = distro.Warn
		}
		x.find("unread", fmt.Sprintf("p%d", p.Number), at{part: p.Number}, level, "%s was not looked into: %s", p, p.Why)
	}
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func allowed(p Policy, rule, object string) bool {
	// Where /bin is a link to /usr/bin, and where it is not, are alike.
	object = strings.TrimPrefix(object, "usr/")
	for _, l := range [][]string{builtIn[rule], p.Allow[rule]} {
		for _, pattern := range l {
			if distro.MatchText(strings.TrimPrefix(strings.TrimPrefix(pattern, "/"), "usr/"), object) {
				return true
			}
		}
	}
	return false
}
