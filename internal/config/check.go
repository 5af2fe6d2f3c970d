package config

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"sort"
	"strings"

	"slipway/internal/distro"
)

// check holds what needs more than one value, or the words of distro.
func (d *Definition) check() {
	d.checkSeries()
	d.checkBuilder()
	d.checkLayers()
	d.checkBoards()
	d.doc.unique("targets", "target", d.Targets)
	d.checkFeeds()
	d.checkPublish()
	d.checkGate()
	d.checkOwners()
	d.checkSecurity()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// unique finds names that a list has twice.
func (d *document) unique(path, what string, names []string) {
	seen := map[string]bool{}
	for i, n := range names {
		if n != "" && seen[n] {
			d.at(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%s %s is here twice", what, n), "")
		}
		seen[n] = true
	}
}

func (d *Definition) checkSeries() {
	s := d.Series
	if s.Released != "" && s.SecuritySupportEnds != "" && s.SecuritySupportEnds < s.Released {
		d.doc.at("series.security_support_ends", fmt.Sprintf("security support ends on %s, before the release on %s", s.SecuritySupportEnds, s.Released), "")
	}
	switch {
	case s.Ends == "":
	case s.SecuritySupportEnds != "" && s.Ends < s.SecuritySupportEnds:
		d.doc.at("series.ends", fmt.Sprintf("the series ends on %s, before its security support on %s", s.Ends, s.SecuritySupportEnds), "")
	case s.Released != "" && s.Ends < s.Released:
		d.doc.at("series.ends", fmt.Sprintf("the series ends on %s, before its release on %s", s.Ends, s.Released), "")
	}
}

func (d *Definition) checkBuilder() {
	b := d.Builder
	if b.Kind == BitBake && b.Release == "" && !d.doc.given("builder.release") {
		d.doc.missing("builder.release", "builder.release is missing", "the Yocto release that the layers belong to: wrynose")
	}
	only := func(path, set string, kinds ...string) {
		if set != "" && !slices.Contains(kinds, b.Kind) {
			d.doc.at(path, fmt.Sprintf("%s does nothing with builder %s", path, b.Kind), "it is for "+strings.Join(kinds, " and ")+": remove it, or change builder.kind")
		}
	}
	only("builder.release", b.Release, BitBake, Import)
	only("conf", d.Conf, BitBake)
	only("builder.arches", strings.Join(b.Arches, " "), RPMBuild)
	if b.Kind == RPMBuild && len(b.Arches) == 0 {
		d.doc.at("builder.arches", "builder.arches is empty", "name one, or leave the key out: [x86_64]")
	}
	d.doc.unique("builder.arches", "architecture", b.Arches)
}

func (d *Definition) checkLayers() {
	if d.doc.values["layers"] != nil && d.Layers != nil && len(d.Layers) == 0 {
		d.doc.at("layers", "layers is empty", "a definition needs at least one layer: - {name: meta-mine, path: ./layers/meta-mine}")
	}
	seen := map[string]placed{}
	d.layerList("layers", d.Layers, seen)
	names := map[string]bool{}
	for i, c := range d.Components {
		p := fmt.Sprintf("components[%d]", i)
		if c.Name != "" && names[c.Name] {
			d.doc.at(p+".name", fmt.Sprintf("component %s is here twice", c.Name), "")
		}
		names[c.Name] = true
		d.layerList(p+".layers", c.Layers, seen)
		d.doc.unique(p+".targets", "target", c.Targets)
		if len(c.Layers) == 0 && len(c.Targets) == 0 {
			d.doc.at(p, fmt.Sprintf("component %s adds nothing", c.Name), "give it layers or targets")
		}
	}
}

// placed is a layer with its list and its place.
type placed struct {
	Layer
	list, at string
}

// layerList checks one list of layers. Two components may need the same layer, and say
// so in the same words.
func (d *Definition) layerList(prefix string, layers []Layer, seen map[string]placed) {
	for i, l := range layers {
		p := fmt.Sprintf("%s[%d]", prefix, i)
		first, twice := seen[l.Name]
		switch {
		case l.Name == "" || !twice:
			seen[l.Name] = placed{l, prefix, p}
		case first.list == prefix || first.Layer != l:
			d.doc.at(p+".name", fmt.Sprintf("layer %s is here twice", l.Name), fmt.Sprintf("the first is %s", first.at))
		}
		given := func(key string) bool { return d.doc.given(p + "." + key) }
		if l.URL == "" && !given("url") {
			for _, key := range []string{"branch", "commit"} {
				if given(key) {
					d.doc.at(p+"."+key, fmt.Sprintf("%s without url", key), "a local layer is taken as committed in the workspace; a remote one needs its url")
				}
			}
			if !given("path") {
				d.doc.missing(p+".path", strings.TrimSpace("layer "+l.Name)+" has neither path nor url", "path: for a folder of the workspace, ./layers/meta-mine; url: for another repository")
			}
		} else if msg := badRepository(l.URL); l.URL != "" && msg != "" {
			d.doc.at(p+".url", fmt.Sprintf("%q %s", short(l.URL), msg), "https://..., ssh://..., git@host:path, or a path for tests")
		} else if !given("branch") && !given("commit") {
			d.doc.missing(p+".branch", strings.TrimSpace("layer "+l.Name)+" has neither branch nor commit", "branch: takes its newest commit at each build, commit: fixes one")
		}
		if given("path") {
			d.checkPath(p+".path", l)
		}
	}
}

// badRepository says what is wrong with a repository's address.
func badRepository(s string) string {
	if s == "" || strings.HasPrefix(s, "-") || strings.ContainsAny(s, " '\"") || strings.Contains(s, "::") {
		return "is no address of a git repository"
	}
	if !strings.Contains(s, "://") {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || !slices.Contains([]string{"https", "http", "ssh", "git", "file"}, u.Scheme) {
		return "is no address of a git repository"
	}
	if _, secret := u.User.Password(); secret {
		return "has a password in it, and would be published"
	}
	return ""
}

func (d *Definition) checkPath(at string, l Layer) {
	clean := path.Clean(l.Path)
	switch {
	case l.Path == "":
		if n := d.doc.values[at]; n != nil && n.ShortTag() == "!!str" && n.Value == "" {
			d.doc.at(at, "the path is empty", "write . for the whole repository")
		}
	case strings.Contains(l.Path, `\`):
		d.doc.at(at, fmt.Sprintf("path %q has a backslash in it", short(l.Path)), "separate folders by /")
	case path.IsAbs(clean), clean == "..", strings.HasPrefix(clean, "../"):
		where := "the workspace"
		if l.URL != "" {
			where = "the repository"
		}
		d.doc.at(at, fmt.Sprintf("path %q leaves %s", short(l.Path), where), "a layer lies in it: ./layers/"+l.Name)
	case clean == ".git", strings.HasPrefix(clean, ".git/"), clean == ".slipway", strings.HasPrefix(clean, ".slipway/"):
		d.doc.at(at, fmt.Sprintf("path %q is not a place for a layer", short(l.Path)), "a layer lies beside it: ./layers/"+l.Name)
	}
}

func (d *Definition) checkBoards() {
	seen := map[string]bool{}
	for i, b := range d.Boards {
		p := fmt.Sprintf("boards[%d]", i)
		if b.Name != "" && seen[b.Name] {
			d.doc.at(p+".name", fmt.Sprintf("board %s is here twice", b.Name), "")
		}
		seen[b.Name] = true
		d.doc.unique(p+".images", "image", b.Images)
		d.checkBoot(p+".boot", b)
		// Both are scopes of feeds, in one folder.
		if b.Name != "" && slices.Contains(d.Builder.Arches, b.Name) {
			d.doc.at(p+".name", fmt.Sprintf("board %s has the name of an architecture", b.Name), "each has its own feed: choose another name")
		}
	}
}

func (d *Definition) checkBoot(at string, b Board) {
	d.checkUpgrade(at+".upgrade", b)
	if b.Boot.Command != "" && b.Boot.Rig != "" {
		d.doc.at(at+".command", fmt.Sprintf("board %s has a rig and a command", b.Name), "a rig is QEMU, a command a real board: keep one")
	}
	seen := map[int]bool{}
	for i, n := range b.Boot.Ports {
		p := fmt.Sprintf("%s.ports[%d]", at, i)
		switch {
		case d.doc.values[p] != nil && d.doc.values[p].ShortTag() != "!!int": // said already
		case n < 1 || n > 65535:
			d.doc.at(p, fmt.Sprintf("%s is %d", p, n), "from 1 to 65535")
		case seen[n]:
			d.doc.at(p, fmt.Sprintf("port %d is here twice", n), "")
		}
		seen[n] = true
	}
	for _, l := range []struct {
		key  string
		list []string
	}{{"log", b.Boot.Log}, {"failed", b.Boot.Failed}} {
		d.doc.unique(at+"."+l.key, "pattern", l.list)
		for i, s := range l.list {
			if s != "" && strings.Trim(s, "* ") == "" {
				d.doc.at(fmt.Sprintf("%s.%s[%d]", at, l.key, i), fmt.Sprintf("%q would let everything pass", s), "name what is meant, with * for what changes")
			}
		}
	}
}

// checkUpgrade: the image that upgrades itself is one that is made and booted.
func (d *Definition) checkUpgrade(at string, b Board) {
	switch image := b.Boot.Upgrade; {
	case image == "":
	case !slices.Contains(b.Images, image):
		msg, hint := choice("image of board "+b.Name, image, b.Images)
		d.doc.at(at, msg, hint)
	case b.Boot.Rig == "":
		d.doc.at(at, fmt.Sprintf("image %s is to upgrade itself, and no rig boots it", image), "boot: {rig: qemu-x86_64, upgrade: "+image+"}")
	}
}

func (d *Definition) checkFeeds() {
	for i, part := range d.Feeds.Separate {
		if part != "" && !slices.Contains(distro.Parts, part) {
			msg, hint := choice("part", part, distro.Parts)
			d.doc.at(fmt.Sprintf("feeds.separate[%d]", i), msg, hint)
		}
	}
	d.doc.unique("feeds.separate", "part", d.Feeds.Separate)
}

func (d *Definition) checkPublish() {
	known := make([]string, len(distro.Classes))
	for i, c := range distro.Classes {
		known[i] = string(c)
	}
	names := make([]string, len(d.Publish.Public))
	for i, c := range d.Publish.Public {
		names[i] = string(c)
		if c != "" && !slices.Contains(known, string(c)) {
			msg, hint := choice("class", string(c), known)
			d.doc.at(fmt.Sprintf("publish.public[%d]", i), msg, hint)
		}
	}
	d.doc.unique("publish.public", "class", names)
	for i, x := range d.Publish.Exclude {
		p := fmt.Sprintf("publish.exclude[%d]", i)
		if x == (Exclude{}) && d.doc.values[p] != nil && len(d.doc.values[p].Content) == 0 {
			d.doc.at(p, "this entry matches nothing", "name a license, license_flags or recipe")
		}
		for _, f := range []struct{ key, pattern, example string }{{"license", x.License, "LicenseRef-*"}, {"license_flags", x.LicenseFlags, "commercial*"}, {"recipe", x.Recipe, "vendor-*"}} {
			if _, err := path.Match(f.pattern, ""); err != nil {
				d.doc.at(p+"."+f.key, fmt.Sprintf("%q is no pattern", short(f.pattern)), "a name, in which * stands for any text: "+f.example)
			}
		}
		// A rule that never matches would let out what it was written to keep in.
		if x.LicenseFlags != "" && d.Builder.Kind == RPMBuild {
			d.doc.at(p+".license_flags", "publish.exclude[].license_flags does nothing with builder rpmbuild", "specs have no licence flags: name a license or a recipe")
		}
	}
}

func (d *Definition) checkGate() {
	if u := d.Gate.UpgradeFrom; u.PreviousFeed != "" {
		if !u.PreviousSeries {
			d.doc.at("gate.upgrade_from.previous_feed", "previous_feed does nothing without previous_series", "previous_series: true")
		}
		if i := strings.LastIndexByte(strings.TrimRight(u.PreviousFeed, "/"), '/'); !rules["series"].accepts(strings.TrimRight(u.PreviousFeed, "/")[i+1:]) {
			d.doc.at("gate.upgrade_from.previous_feed", "the address does not end in a series' name", "https://feeds.example.org/halyard/1")
		}
	}
	levels := []string{string(distro.Block), string(distro.Warn), string(distro.Info), string(CheckOff)}
	for _, id := range sortedKeys(d.Gate.Checks) {
		if key := d.doc.keys["gate.checks."+id]; !rules["check"].accepts(id) {
			d.doc.find(key.Line, key.Column, fmt.Sprintf("%q is not %s", short(id), rules["check"].what), rules["check"].form)
		}
	}
	level := func(path string, l CheckPolicy) {
		if s := string(l); s != "" && !slices.Contains(levels, s) {
			msg, hint := choice("level", s, levels)
			d.doc.at(path, msg, hint)
		}
	}
	for _, id := range sortedKeys(d.Gate.Checks) {
		level("gate.checks."+id, d.Gate.Checks[id])
	}
	level("gate.results.new", d.Gate.Results.New)
	level("gate.results.vanished", d.Gate.Results.Vanished)
	for i, q := range d.Gate.Quarantine {
		if p := fmt.Sprintf("gate.quarantine[%d].test", i); q.Test != "" && strings.Trim(q.Test, "*") == "" {
			d.doc.at(p, fmt.Sprintf("%q would take every test out of the gate", q.Test), "name the test, with * for a part of its name: ptestresult.glib-2.0.*")
		}
	}
	for i, l := range d.Gate.Limits {
		if p := fmt.Sprintf("gate.limits[%d]", i); (l.Package == "") == (l.Image == "") {
			d.doc.at(p, p+" names a package or an image, one of them", "{image: \"qemux86-64/light\", size: 96M}, or {package: \"lib*\", size: 4M}")
		}
	}
	for _, rule := range sortedKeys(d.Gate.Image.Levels) {
		level("gate.image.levels."+rule, d.Gate.Image.Levels[rule])
	}
	for _, rule := range sortedKeys(d.Gate.Image.Allow) {
		d.doc.unique("gate.image.allow."+rule, "object", d.Gate.Image.Allow[rule])
	}
}

func (d *Definition) checkOwners() {
	for i, o := range d.Owners {
		p := fmt.Sprintf("owners[%d]", i)
		if o.Path != "" && !o.sound() {
			d.doc.at(p+".path", fmt.Sprintf("%q is no pattern of a path", short(o.Path)), "a layer and a path in it, without a slash at either end: halyard/specs/lib*")
		}
		if d.doc.given(p+".people") && len(o.People) == 0 {
			d.doc.at(p+".people", "owners[].people is empty", "name somebody, or take the entry out")
		}
		d.doc.unique(p+".people", "person", o.People)
	}
}

func (d *Definition) checkSecurity() {
	s := d.Security.SLA
	list := []struct {
		name string
		d    Duration
	}{{"critical", s.Critical}, {"important", s.Important}, {"moderate", s.Moderate}, {"low", s.Low}}
	last := list[0]
	for _, x := range list[1:] {
		if x.d == "" {
			continue
		}
		if last.d != "" && x.d.Span() < last.d.Span() {
			d.doc.at("security.sla."+x.name, fmt.Sprintf("%s in %s is sooner than %s in %s", x.name, x.d, last.name, last.d), "what is graver is fixed sooner")
		}
		last = x
	}
}
