package bitbake

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// AssertID is the check's id in findings.
const AssertID = "bitbake-settings"

// Assert judges the configuration of all boards by what a binary distribution needs:
// versions that rise, hash equivalence, history, sources, no open doors. It asks
// what the checkout has (OE-Core's series, its classes), so a wish that a release
// cannot fulfil is no finding. forked is whether the build has the series' own PR
// and hash servers. Findings come in the order of the questions; boards with the
// same answer are one finding.
func Assert(boards []*Environment, forked bool) []distro.Finding {
	var out []distro.Finding
	for _, e := range boards {
		for _, f := range assertBoard(e, forked) {
			f.Check = AssertID
			i := slices.IndexFunc(out, func(o distro.Finding) bool { return o.ID == f.ID && o.Text == f.Text })
			if i < 0 {
				out = append(out, f)
				i = len(out) - 1
			}
			out[i].Boards = append(out[i].Boards, e.Board)
		}
	}
	return append(out, tunes(boards)...)
}

// tunes finds boards of one architecture whose generic packages have different
// names of it: each then builds and publishes all of them.
func tunes(boards []*Environment) []distro.Finding {
	first := map[string]*Environment{}
	var out []distro.Finding
	for _, e := range boards {
		arch := e.Vars["TARGET_ARCH"]
		f := first[arch]
		if f == nil {
			first[arch] = e
			continue
		}
		if a, b := f.Vars["DEFAULTTUNE"], e.Vars["DEFAULTTUNE"]; a != b {
			out = append(out, distro.Finding{Check: AssertID, ID: "tune-" + e.Board, Level: distro.Warn, Object: e.Board, Boards: []string{f.Board, e.Board},
				Text: fmt.Sprintf("%s is tuned for %s and %s for %s, both %s: every generic package is built and published twice", f.Board, a, e.Board, b, arch),
				Cure: "set one DEFAULTTUNE that both run, in the distribution's conf, or keep both on purpose and waive this"})
		}
	}
	return out
}

func (e *Environment) on(name string) bool {
	v := strings.ToLower(e.Vars[name])
	return v == "1" || v == "yes" || v == "true"
}

func (e *Environment) hasClass(name string) bool { return slices.Contains(e.Classes, name) }

// open are image features that let anybody in.
var open = []string{"debug-tweaks", "allow-empty-password", "empty-root-password", "allow-root-login", "post-install-logging"}

func assertBoard(e *Environment, forked bool) []distro.Finding {
	var out []distro.Finding
	add := func(id string, level distro.Level, object, text, cure string) {
		out = append(out, distro.Finding{ID: id, Level: level, Object: object, Text: text, Cure: cure})
	}
	if d := e.Vars["DISTRO"]; d == "" || d == "nodistro" || d == "poky" {
		add("distro", distro.Block, "DISTRO", fmt.Sprintf("DISTRO is %q, which others change", d), "make conf/distro/<name>.conf in a layer of yours, and set DISTRO")
	}
	if words := e.Words("PACKAGE_CLASSES"); len(words) == 0 || words[0] != "package_rpm" {
		add("package-class", distro.Block, "PACKAGE_CLASSES", fmt.Sprintf("PACKAGE_CLASSES is %q: the feed is made of rpm packages", e.Vars["PACKAGE_CLASSES"]), `PACKAGE_CLASSES = "package_rpm"`)
	}
	if e.Vars["DEFAULTTUNE"] == "" {
		add("tune", distro.Block, "DEFAULTTUNE", "DEFAULTTUNE is not set: packages have no architecture of their own", "let the machine's conf include a tune, or set DEFAULTTUNE")
	}
	if e.Vars["BB_SIGNATURE_HANDLER"] != "OEEquivHash" {
		add("equivalence", distro.Block, "BB_SIGNATURE_HANDLER", fmt.Sprintf("BB_SIGNATURE_HANDLER is %q: a comment in a recipe gives new versions to all that depends on it", e.Vars["BB_SIGNATURE_HANDLER"]), `BB_SIGNATURE_HANDLER = "OEEquivHash"`)
	}
	if _, ok := e.Vars["BB_HASHSERVER"]; ok {
		add("hashserver-spelling", distro.Block, "BB_HASHSERVER", "BB_HASHSERVER is no variable of BitBake, and nothing reads it", "write BB_HASHSERVE")
	}
	for _, name := range slices.Sorted(maps.Keys(e.Vars)) {
		if near := misspelt(name); near != "" {
			add("spelling-"+name, distro.Warn, name, name+" is set, and BitBake and OE-Core know no such variable", "write "+near)
		}
	}
	if e.Vars["BB_HASHSERVE"] == "" {
		add("hash-server", distro.Block, "BB_HASHSERVE", "no hash equivalence server", "take BB_HASHSERVE out of conf: Slipway sets it")
	} else if forked && (e.Vars["BB_HASHSERVE"] == "auto" || strings.HasPrefix(e.Vars["BB_HASHSERVE"], "unix:")) {
		add("hash-server", distro.Block, "BB_HASHSERVE", "the build asks a hash server of its own, not the series'", "take BB_HASHSERVE out of conf: Slipway sets it")
	}
	if e.Vars["PRSERV_HOST"] == "" {
		add("pr-server", distro.Block, "PRSERV_HOST", "no PR server: packages change and keep their version, and devices never get them", "take PRSERV_HOST out of conf: Slipway sets it")
	} else if forked && strings.HasSuffix(e.Vars["PRSERV_HOST"], ":0") {
		add("pr-server", distro.Block, "PRSERV_HOST", "the build asks a PR server of its own, not the series'", "take PRSERV_HOST out of conf: Slipway sets it")
	}
	out = append(out, assertClasses(e)...)
	for _, feature := range open {
		if e.Has("IMAGE_FEATURES", feature) || e.Has("EXTRA_IMAGE_FEATURES", feature) {
			level := distro.Block
			if feature == "post-install-logging" {
				level = distro.Warn
			}
			add("open-"+feature, level, feature, "images have "+feature+": "+map[bool]string{true: "anybody is root on them", false: "it is for development"}[level == distro.Block], "take it out of IMAGE_FEATURES and EXTRA_IMAGE_FEATURES")
		}
	}
	if e.Has("OE_FRAGMENTS", "core/yocto/root-login-with-empty-password") {
		add("open-fragment", distro.Block, "OE_FRAGMENTS", "the fragment root-login-with-empty-password is on: anybody is root on the images", "bitbake-config-build disable-fragment core/yocto/root-login-with-empty-password")
	}
	if v := e.Vars["PACKAGE_FEED_URIS"]; v != "" {
		add("feed-uris", distro.Block, "PACKAGE_FEED_URIS", "images get a second .repo from PACKAGE_FEED_URIS, whose gpgcheck=0 beats the signed feed's", "take PACKAGE_FEED_URIS out: the feed's configuration is a package")
	}
	if rePassword.MatchString(e.Vars["EXTRA_USERS_PARAMS"]) {
		add("open-password", distro.Block, "EXTRA_USERS_PARAMS", "EXTRA_USERS_PARAMS sets a password: it is the same on every device", "take it out; the first boot makes one for each device")
	}
	// What a recipe has of its own is seen when it was built: see FloatingName.
	for _, name := range slices.Sorted(maps.Keys(e.Vars)) {
		if v := e.Vars[name]; strings.HasPrefix(name, "SRCREV") && (strings.Contains(v, "AUTOREV") || strings.Contains(v, "AUTOINC")) {
			id := "autorev"
			if name != "SRCREV" {
				id += "-" + strings.TrimPrefix(strings.TrimLeft(strings.TrimPrefix(name, "SRCREV"), ":_"), "pn-")
			}
			add(id, distro.Block, name, name+" is AUTOREV: the same revision builds other sources tomorrow", "pin "+name)
		}
	}
	return out
}

// spelt are the variables that a binary distribution rests on, as they are written.
var spelt = []string{"ARCHIVER_MODE", "BB_GENERATE_MIRROR_TARBALLS", "BB_HASHSERVE", "BB_HASHSERVE_UPSTREAM", "BB_SIGNATURE_HANDLER", "BUILDHISTORY_COMMIT", "BUILDHISTORY_FEATURES", "COPYLEFT_LICENSE_EXCLUDE",
	"COPYLEFT_LICENSE_INCLUDE", "DEFAULTTUNE", "EXTRA_IMAGE_FEATURES", "IMAGE_FEATURES", "PACKAGE_CLASSES", "PACKAGE_FEED_URIS", "PRSERV_HOST", "PRSERV_UPSTREAM", "SSTATE_MIRRORS", "USER_CLASSES"}

// misspelt gives what was meant by a variable that differs by a letter or two from one
// of spelt, "" for all others.
func misspelt(name string) string {
	base, _, _ := strings.Cut(name, ":")
	if base == "BB_HASHSERVER" || slices.Contains(spelt, base) {
		return ""
	}
	return errs.NearBy(base, spelt, 2)
}

// rePassword finds a password among the options of useradd and usermod; one that begins
// with * or ! locks the account.
var rePassword = regexp.MustCompile(`\s(?:-[pP]|--(?:clear-)?password)[\s=]*['"]?[^\s'"*!]`)

// assertClasses asks for the helper classes, where the release has them.
func assertClasses(e *Environment) []distro.Finding {
	var out []distro.Finding
	inherits := func(class string) bool { return e.Has("INHERIT", class) || e.Has("USER_CLASSES", class) }
	add := func(id string, level distro.Level, text, cure string) {
		out = append(out, distro.Finding{ID: id, Level: level, Object: id, Text: text, Cure: cure})
	}
	gone := map[string]string{"reproducible_build": "from kirkstone on it is always on, and gone as a class", "packagefeed-stability": "hash equivalence took its place in 3.2", "cve-check": "it was removed from OE-Core in 2026; vex gives the data"}
	for _, c := range []string{"reproducible_build", "packagefeed-stability", "cve-check"} {
		if (inherits(c) || slices.Contains(e.Lost, c)) && !e.hasClass(c) {
			add(c, distro.Block, c+" is inherited, and this release has no such class: "+gone[c], "take it out of INHERIT and USER_CLASSES")
		}
	}
	for _, c := range e.Lost {
		if gone[c] == "" {
			add("class-"+c, distro.Block, c+" is inherited, and no layer has such a class", "take it out of INHERIT and USER_CLASSES, or add the layer that has it")
		}
	}
	for _, c := range []string{"reproducible_build", "packagefeed-stability"} {
		if e.hasClass(c) && !inherits(c) {
			add(c, distro.Warn, c+" is a class of this release, and not inherited", `USER_CLASSES += "`+c+`"`)
		}
	}
	if !inherits("buildhistory") || e.Vars["BUILDHISTORY_COMMIT"] != "1" {
		add("buildhistory", distro.Block, "no buildhistory, or it is not committed: nobody sees versions that go backwards", `INHERIT += "buildhistory", BUILDHISTORY_COMMIT = "1"`)
	}
	if !inherits("archiver") {
		add("archiver", distro.Warn, "the archiver is off: no sources are published beside the packages", `INHERIT += "archiver"`)
	} else {
		mode := e.Flags["ARCHIVER_MODE"]
		for _, m := range [][2]string{{"src", "original"}, {"recipe", "1"}, {"srpm", "1"}, {"dumpdata", "1"}} {
			if mode[m[0]] != m[1] {
				add("archiver-"+m[0], distro.Warn, fmt.Sprintf("ARCHIVER_MODE[%s] is %q", m[0], mode[m[0]]), fmt.Sprintf(`ARCHIVER_MODE[%s] = "%s"`, m[0], m[1]))
			}
		}
		if e.Vars["COPYLEFT_LICENSE_INCLUDE"] != "*" {
			add("archiver-licenses", distro.Warn, fmt.Sprintf("the archiver takes only licences that match %q, and skips the others in silence", e.Vars["COPYLEFT_LICENSE_INCLUDE"]), `COPYLEFT_LICENSE_INCLUDE = "*"`)
		}
	}
	if !e.on("BB_GENERATE_MIRROR_TARBALLS") {
		add("mirror-tarballs", distro.Warn, "no tarballs of git sources are kept: a repository that is gone stops every later build", `BB_GENERATE_MIRROR_TARBALLS = "1"`)
	}
	for _, class := range []string{"create-spdx", "vex"} {
		if e.hasClass(class) && !inherits(class) && !(class == "vex" && inherits("cve-check")) {
			add(class, distro.Warn, class+" is not inherited: later security work has no data on this release", `INHERIT += "`+class+`"`)
		}
	}
	return out
}
