package cycle

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/prserv/fork"
	"slipway/internal/prserv/prdb"
)

// givenNumber is the highest number that a PR database has given for one recipe in
// one version: a row's version is BitBake's PF, "<recipe>-[<epoch>_]<version>-<PR>",
// and the package's release is then "<PR>.<number>" (package_get_auto_pr in
// OE-Core's package.bbclass).
type givenNumber struct {
	source, version, pr, arch string
	epoch                     int
	value                     string
}

func (g givenNumber) release() string { return g.pr + "." + g.value }

func (g givenNumber) number() int {
	first, _, _ := strings.Cut(g.value, ".")
	n, _ := strconv.Atoi(first)
	return n
}

var (
	extendedVersion = regexp.MustCompile(`^([0-9]+)_(.+)$`)
	bitbakePR       = regexp.MustCompile(`^r[0-9]+$`)
)

// readGiven gives the highest number of each recipe, version and architecture, and
// how many rows name none. Rows that count revisions of a source ("AUTOINC-...") are
// no numbers of packages.
func readGiven(rows []prdb.Row, packages []distro.PackageRecord) (out []givenNumber, skipped int) {
	sources := map[string]bool{}
	for _, r := range packages {
		sources[r.SourceName] = true
	}
	best := map[givenNumber]string{}
	for _, r := range rows {
		if strings.HasPrefix(r.Version, "AUTOINC-") {
			continue
		}
		g, ok := parsePF(r.Version, sources)
		if !ok || !prdb.Valid(r.Value) {
			skipped++
			continue
		}
		g.arch = distro.RPMArch(r.Pkgarch)
		if old, ok := best[g]; !ok || prdb.Compare(r.Value, old) > 0 {
			best[g] = r.Value
		}
	}
	for g, v := range best {
		g.value = v
		out = append(out, g)
	}
	sort.Slice(out, func(i, j int) bool { return fmt.Sprint(out[i]) < fmt.Sprint(out[j]) })
	return out, skipped
}

// parsePF takes a PF apart. A version may hold dashes: then a recipe that the feed
// has decides where its name ends.
func parsePF(pf string, sources map[string]bool) (g givenNumber, ok bool) {
	i := strings.LastIndexByte(pf, '-')
	if i < 0 || !bitbakePR.MatchString(pf[i+1:]) {
		return g, false
	}
	rest := pf[:i]
	g.pr = pf[i+1:]
	j := strings.LastIndexByte(rest, '-')
	for k := j; k > 0; k = strings.LastIndexByte(rest[:k], '-') {
		if sources[rest[:k]] {
			j = k
			break
		}
	}
	if j <= 0 || j == len(rest)-1 {
		return g, false
	}
	g.source, g.version = rest[:j], rest[j+1:]
	if m := extendedVersion.FindStringSubmatch(g.version); m != nil {
		g.epoch, _ = strconv.Atoi(m[1])
		g.version = m[2]
	}
	// In a package's version a dash is a plus, and a number stands for AUTOINC.
	g.version, _, _ = strings.Cut(strings.ReplaceAll(g.version, "-", "+"), "AUTOINC")
	return g, true
}

// behind finds the recipes of which the feed has less than the PR database has given
// out: what devices may have would be newer than the release.
func behind(packages []distro.PackageRecord, given []givenNumber) errs.List {
	type place struct{ source, arch string }
	newest := map[place]distro.PackageRecord{}
	for _, r := range packages {
		p := place{r.SourceName, distro.RPMArch(r.Arch)}
		if old, ok := newest[p]; !ok || old.CompareEVR(r) < 0 {
			newest[p] = r
		}
	}
	top := map[place]givenNumber{}
	for _, g := range given {
		p := place{g.source, g.arch}
		if old, ok := top[p]; !ok || distro.CompareEVR(old.epoch, old.version, old.release(), g.epoch, g.version, g.release()) < 0 {
			top[p] = g
		}
	}
	var found errs.List
	for _, g := range given { // in order
		p := place{g.source, g.arch}
		r, ok := newest[p]
		if !ok || top[p] != g || distro.CompareEVR(r.Epoch, r.Version, r.Release, g.epoch, g.version, g.release()) >= 0 {
			continue
		}
		found = append(found, errs.E(errs.Conflict, fmt.Sprintf("%s is behind the PR database, which has given out %s of %s for %s", r.NEVRA(),
			distro.FormatEVR(g.epoch, g.version, g.release()), g.source, g.arch), errs.Hint("adopt the newest feed: a device that has the higher version would never update to this one")))
	}
	return found
}

// adoptedChecksum marks the rows of numbers that only adopting burned: no output has it.
const adoptedChecksum = "slipway:adopted"

// burn gives the adopted release's number rows, and the rows of the
// series' PR database that no later number may be below: of a recipe's version the highest of the database and of the packages'
// releases, in every scope, as a recipe may later be built for another one.
func burn(packages []distro.PackageRecord, given []givenNumber, scopes []string) (rows []distro.NumberRow, marks []prdb.Row) {
	type version struct{ source, version string }
	tasks := map[distro.NumberKey][]distro.PackageRecord{}
	highest := map[version]int{}
	arches := map[version][]string{}
	note := func(k distro.NumberKey, n int) {
		v := version{k.Source, k.Version}
		highest[v] = max(highest[v], n)
		if len(arches[v]) == 0 {
			arches[v] = slices.Clone(scopes)
		}
		if !slices.Contains(arches[v], k.Arch) {
			arches[v] = append(arches[v], k.Arch)
		}
	}
	for _, r := range packages {
		if r.IsSource() {
			continue
		}
		k := distro.NumberKey{Source: r.SourceName, Version: distro.FormatEVR(r.Epoch, r.Version, ""), Arch: distro.RPMArch(r.Arch)}
		note(k, releaseNumber(r.Release))
		old := tasks[k]
		if len(old) > 0 {
			switch c := distro.RPMVerCmp(old[0].Release, r.Release); {
			case c > 0:
				continue
			case c < 0:
				old = nil
			}
		}
		tasks[k] = append(old, r)
	}
	for _, g := range given {
		note(distro.NumberKey{Source: g.source, Version: distro.FormatEVR(g.epoch, g.version, ""), Arch: g.arch}, g.number())
	}
	for k, l := range tasks {
		contents := map[string]distro.Digest{}
		for _, r := range l {
			contents[r.Name] = r.Content
		}
		rows = append(rows, distro.NumberRow{NumberKey: k, Number: releaseNumber(l[0].Release), Content: distro.TaskContent(contents)})
	}
	for v, n := range highest {
		for _, arch := range arches[v] {
			marks = append(marks, prdb.Row{Version: fork.PRVersion(v.source, v.version), Pkgarch: arch, Checksum: adoptedChecksum, Value: strconv.Itoa(n)})
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].String() < rows[j].String() })
	sort.Slice(marks, func(i, j int) bool { return fmt.Sprint(marks[i]) < fmt.Sprint(marks[j]) })
	return rows, marks
}

var (
	bitbakeRelease = regexp.MustCompile(`^r[0-9]+\.([0-9]{1,9})(\.|$)`)
	leadingNumber  = regexp.MustCompile(`^([0-9]{1,9})([^0-9]|$)`)
	anyNumber      = regexp.MustCompile(`[0-9]{1,9}`)
)

// releaseNumber is the number in a release: "r0.3" is 3, "4.fc38" is 4; of any other
// form the highest that stands in it, as a gap does no harm.
func releaseNumber(release string) int {
	for _, form := range []*regexp.Regexp{bitbakeRelease, leadingNumber} {
		if m := form.FindStringSubmatch(release); m != nil {
			n, _ := strconv.Atoi(m[1])
			return n
		}
	}
	top := 0
	for _, s := range anyNumber.FindAllString(release, -1) {
		n, _ := strconv.Atoi(s)
		top = max(top, n)
	}
	return top
}
