package upgrades

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
)

// service is one thing that starts by itself, as files of the root declare it.
type service struct {
	name  string // "sshd.service", "dropbear"
	where string // "systemd multi-user.target.wants", "rc5.d", "/etc/inittab"
}

func (s service) String() string { return s.name + " (" + s.where + ")" }

// declared are the services of a root, each with how: "enabled", "masked", "S20", "a line".
type declared map[service]string

var rcLink = regexp.MustCompile(`^([SK]\d\d)(.+)$`)

// servicesOf reads what starts by itself in a root: links below /etc/systemd, links of
// /etc/rc?.d, lines of /etc/slipway/services and of /etc/inittab.
func servicesOf(root string) (declared, error) {
	tree, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tree.Close() }()
	out := declared{}
	names := func(dir string) []string {
		f, err := tree.Open(dir)
		if err != nil {
			return nil // not there, or no folder: it declares nothing
		}
		defer func() { _ = f.Close() }()
		list, _ := f.Readdirnames(-1)
		slices.Sort(list)
		return list
	}
	for _, kind := range []string{"system", "user"} {
		dir := "etc/systemd/" + kind
		for _, n := range names(dir) {
			at := path.Join(dir, n)
			st, err := tree.Lstat(at)
			switch {
			case err != nil:
			case st.Mode()&fs.ModeSymlink != 0:
				how := "masked"
				if to, _ := tree.Readlink(at); to != "/dev/null" {
					how = "stands for " + path.Base(to)
				}
				out[service{n, "systemd " + kind}] = how
			case st.IsDir() && (strings.HasSuffix(n, ".wants") || strings.HasSuffix(n, ".requires") || strings.HasSuffix(n, ".upholds")):
				for _, unit := range names(at) {
					out[service{unit, "systemd " + kind + ", " + n}] = "enabled"
				}
			}
		}
	}
	for _, level := range []string{"S", "0", "1", "2", "3", "4", "5", "6"} {
		for _, dir := range []string{"etc/rc" + level + ".d", "etc/rc.d/rc" + level + ".d"} {
			for _, n := range names(dir) {
				if m := rcLink.FindStringSubmatch(n); m != nil {
					out[service{m[2], path.Base(dir)}] = m[1]
				}
			}
		}
	}
	for _, list := range []string{"etc/slipway/services", "etc/inittab"} {
		data, err := tree.ReadFile(list)
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(data)) {
			if l = strings.TrimSpace(l); l == "" || strings.HasPrefix(l, "#") {
				continue
			}
			name := l
			if list == "etc/slipway/services" {
				name = strings.Fields(l)[0]
			}
			out[service{name, "/" + list}] = "a line"
		}
	}
	return out, nil
}

// definition are the paths that say what a service is: the package that has one of them
// is the service's.
func (s service) definition() []string {
	return []string{"/usr/lib/systemd/system/" + s.name, "/lib/systemd/system/" + s.name, "/usr/lib/systemd/user/" + s.name, "/etc/init.d/" + s.name, "/etc/rc.d/init.d/" + s.name}
}

func (s service) owner(owners map[string]string) string {
	for _, d := range s.definition() {
		if n := owners[d]; n != "" {
			return n
		}
	}
	return ""
}

// presets reads the services that a root's presets name, by the patterns of systemd
// (systemd.preset(5)); one for all of them names none.
func presets(root string) []string {
	var out []string
	for _, dir := range []string{"etc/systemd/system-preset", "usr/lib/systemd/system-preset", "lib/systemd/system-preset"} {
		files, _ := filepath.Glob(filepath.Join(root, dir, "*.preset"))
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				continue
			}
			for l := range strings.Lines(string(data)) {
				if w := strings.Fields(l); len(w) >= 2 && (w[0] == "enable" || w[0] == "disable") && strings.Trim(w[1], "*") != "" {
					out = append(out, w[1])
				}
			}
		}
	}
	return out
}

// fresh is a device of the candidate that was never anything else: what an upgraded one
// is held against. It is made once, when the first journey asks for it.
type fresh struct {
	once     sync.Once
	services declared
	owners   map[string]string // path -> package
	presets  []string
	why      string // it could not be made: the check installs says so too
	err      error
}

func (f *fresh) make(ctx context.Context, bed *check.Bed) (*fresh, error) {
	f.once.Do(func() { f.err = f.install(ctx, bed) })
	return f, f.err
}

func (f *fresh) install(ctx context.Context, bed *check.Bed) error {
	root, err := bed.Tool.NewRoot(ctx, filepath.Join(bed.Dir, "fresh"), dnf.Options{Repos: bed.Candidate.Repos, Vars: bed.Candidate.Vars, Arch: bed.Arch, MachineArch: bed.MachineArch})
	if err != nil {
		return err
	}
	defer func() { _ = root.Remove() }()
	relations, err := bed.Relations(ctx, root, bed.Packages)
	if err != nil {
		return err
	}
	together, _ := relations.Together(check.Binary(bed.Packages))
	specs := make([]string, len(together))
	for i, p := range together {
		specs[i] = p.NEVRA()
	}
	switch _, err := root.Install(ctx, specs...); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errs.Is(err, errs.Failed) || errs.Is(err, errs.Denied):
		f.why = check.Why(err)
		return nil
	case err != nil:
		return err
	}
	if f.services, err = servicesOf(root.Path()); err != nil {
		return err
	}
	f.presets = presets(root.Path())
	f.owners, err = root.Owners(ctx)
	return err
}

// sameServices asks whether what starts by itself on the upgraded device is what starts
// on a fresh one of the candidate.
func (j *journey) sameServices(ctx context.Context, installed []distro.PackageRecord) error {
	now, err := servicesOf(j.root.Path())
	if err != nil {
		return err
	}
	if len(now)+len(j.services) == 0 && !j.mayDeclare(ctx) {
		return nil
	}
	if len(j.notRun) > 0 {
		return nil // what scriptlets declare is not there: told with the scriptlets
	}
	f, err := j.fresh.make(ctx, j.bed)
	if err != nil {
		return err
	}
	j.asked++
	if f.why != "" {
		j.find(distro.Finding{ID: j.origin.Name + ":up:services", Object: "services", Text: "services cannot be compared with those of a fresh device, since that one cannot be installed: " + f.why})
		return nil
	}
	has := map[string]bool{}
	for _, p := range installed {
		has[p.Name] = true
	}
	all := maps.Clone(f.services)
	maps.Copy(all, now)
	for _, s := range inOrder(all) {
		want, is := f.services[s], now[s]
		if want == is || slices.ContainsFunc(j.bed.Services, func(p string) bool { return distro.MatchText(p, s.name) }) {
			continue
		}
		j.asked++
		owner := s.owner(f.owners)
		if is == "" && owner != "" && !has[owner] {
			continue // of a package that upgraded devices do not have
		}
		x := distro.Finding{ID: j.origin.Name + ":up:service:" + strings.ReplaceAll(s.name, " ", "-"), Object: s.String(),
			Text: fmt.Sprintf("upgrading from %s leaves the service %s %s; on a fresh device it is %s", j.origin.Version, s, orNone(is), orNone(want)),
			Cure: "let the package's scriptlets say the same when it is installed and when it is upgraded; what is meant goes into gate: {upgrade_from: {services: [...]}}"}
		switch p := slices.IndexFunc(j.bed.Packages, func(p distro.PackageRecord) bool { return p.Name == owner && p.Arch != "src" }); {
		case j.services[s] == is && slices.ContainsFunc(f.presets, func(p string) bool { m, _ := path.Match(p, s.name); return m }):
			x.Level, x.Text, x.Cure = distro.Info, x.Text+": a preset names it, and presets are for fresh devices", "nothing, when that is meant"
		case j.edits[s.where].Path != "" && j.services[s] == is:
			x.Level, x.Text, x.Cure = distro.Info, x.Text+": the administrator's "+s.where+" is kept", "nothing: the new file lies beside, as .rpmnew"
		case p >= 0:
			x.Source = j.bed.Packages[p].SourceName
		}
		j.find(x)
	}
	return nil
}

// mayDeclare reports whether a package of the candidate could start something.
func (j *journey) mayDeclare(ctx context.Context) bool {
	if j.bed.Read == nil {
		return true
	}
	for _, p := range check.Binary(j.bed.Packages) {
		h, err := j.bed.Read(ctx, p)
		if err != nil {
			return true
		}
		for _, f := range h.Files {
			if strings.HasPrefix(f.Path, "/etc/init.d/") || strings.HasPrefix(f.Path, "/etc/rc") || strings.Contains(f.Path, "/systemd/") || f.Path == "/etc/inittab" || f.Path == "/etc/slipway/services" {
				return true
			}
		}
	}
	return false
}

func orNone(how string) string {
	if how == "" {
		return "not declared"
	}
	return how
}

// returned asks whether what starts by itself is again what it was; packages that the
// way up brought, and that stay, may start what they like.
func (j *journey) returned(ctx context.Context, installed []distro.PackageRecord) error {
	if len(j.notRun) > 0 {
		return nil
	}
	now, err := servicesOf(j.root.Path())
	if err != nil {
		return err
	}
	j.asked++
	known := map[string]bool{}
	for _, p := range j.packages {
		known[p.Name] = true
	}
	var owners map[string]string
	all := maps.Clone(j.services)
	maps.Copy(all, now)
	for _, s := range inOrder(all) {
		if now[s] == j.services[s] || slices.ContainsFunc(j.bed.Services, func(p string) bool { return distro.MatchText(p, s.name) }) {
			continue
		}
		if owners == nil {
			if owners, err = j.root.Owners(ctx); err != nil {
				return err
			}
		}
		if owner := s.owner(owners); j.services[s] == "" && owner != "" && !known[owner] {
			continue
		}
		j.find(distro.Finding{ID: j.origin.Name + ":back:service:" + strings.ReplaceAll(s.name, " ", "-"), Object: s.String(),
			Text: fmt.Sprintf("after going back to %s the service %s is %s; it was %s", j.origin.Version, s, orNone(now[s]), orNone(j.services[s])),
			Cure: "the package's scriptlets must undo what they did: %postun, %preun"})
	}
	return nil
}

func inOrder(all declared) []service {
	return slices.SortedFunc(maps.Keys(all), func(a, b service) int { return strings.Compare(a.String(), b.String()) })
}
