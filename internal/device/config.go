package device

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/sign"
)

// Options say which device.
type Options struct {
	Root   string           // "" is /
	Now    func() time.Time // nil is time.Now
	Client *http.Client     // nil is one with timeouts
	Talk   io.Writer        // what goes on, and what dnf says; nil is nowhere
	Env    []string         // of the programs that are started, added to the process's own
}

// Device is one device. Its methods that change something hold its lock.
type Device struct {
	root   string
	now    func() time.Time
	client *http.Client
	talk   io.Writer
	env    []string
	conf   config
	free   func(dir string) (bytes int64, device uint64, err error)
}

// config is the device's configuration, resolved.
type config struct {
	Distribution, Series string
	URL                  string
	Keys                 []*sign.Public
	Frontend             string // dnf or zypper
	Release              distro.Version
	Made                 time.Time // of the installed os-release
	Feeds                []feedConf
	Vars                 map[string]string
}

// feedConf is an enabled section of a .repo file.
type feedConf struct {
	ID    string
	Lines []string // key=value, variables of /etc/dnf/vars put in, all but the snapshot's
	// Scope is set for a feed of the distribution, which follows the snapshot.
	Scope string
}

// snapshotVariable is the one that a pin changes.
const snapshotVariable = "slipway_snapshot"

const stateDir, cacheDir = "var/lib/slipway-device", "var/cache/slipway-device"

// Open reads the device's configuration. Every finding comes at once; Invalid or
// NotFound.
func Open(o Options) (*Device, error) {
	d := &Device{root: o.Root, now: o.Now, client: o.Client, talk: o.Talk, env: o.Env, free: free}
	if d.root == "" {
		d.root = "/"
	}
	var err error
	if d.root, err = filepath.Abs(d.root); err != nil {
		return nil, err
	}
	if d.now == nil {
		d.now = time.Now
	}
	if d.client == nil {
		d.client = &http.Client{Timeout: 2 * time.Minute}
	}
	if d.talk == nil {
		d.talk = io.Discard
	}
	return d, d.configure()
}

func (d *Device) path(name string) string { return filepath.Join(d.root, name) }

func (d *Device) configure() error {
	c := &d.conf
	var bad errs.List
	own, err := keyValues(d.path("etc/slipway-device.conf"))
	if err != nil && !os.IsNotExist(err) {
		return errs.E(errs.Invalid, "/etc/slipway-device.conf", err)
	}
	for key := range own {
		if !slices.Contains([]string{"distribution", "series", "url", "keys", "frontend"}, key) {
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("/etc/slipway-device.conf: unknown key %q", key), errs.Hint("it knows distribution, series, url, keys, frontend")))
		}
	}
	if c.Vars, err = readVars(d.path("etc/dnf/vars"), d.path("etc/zypp/vars.d")); err != nil {
		return err
	}
	release, err := keyValues(d.path("etc/os-release"))
	if err != nil { // it may be an absolute link, which leads out of an install root
		release, err = keyValues(d.path("usr/lib/os-release"))
	}
	if err != nil {
		return errs.E(errs.NotFound, "/etc/os-release does not say which release this is", err, errs.Hint("install the distribution's release package"))
	}
	if st, err := os.Stat(d.path("usr/lib/os-release")); err == nil {
		c.Made = st.ModTime()
	}
	c.Release = distro.Version(release["VERSION_ID"])
	c.Distribution = first(own["distribution"], release["ID"])
	c.Series = first(own["series"], c.Release.Series())
	c.URL = strings.TrimRight(first(own["url"], c.Vars["slipway_url"]), "/")
	if own["url"] != "" {
		c.Vars["slipway_url"] = c.URL
	}
	if c.Distribution == "" || c.Series == "" {
		bad = append(bad, errs.E(errs.Invalid, "this device does not know its distribution and series", errs.Hint("ID and VERSION_ID of /etc/os-release, or distribution and series of /etc/slipway-device.conf")))
	}
	if !strings.HasPrefix(c.URL, "http://") && !strings.HasPrefix(c.URL, "https://") {
		bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("%q is no address of a publication", c.URL), errs.Hint("write http:// or https:// and the rest into /etc/dnf/vars/slipway_url")))
	}
	c.Frontend = own["frontend"]
	switch c.Frontend {
	case "", "auto":
		c.Frontend = d.findFrontend()
	case "dnf", "zypper":
	default:
		bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("frontend %q", c.Frontend), errs.Hint("dnf, zypper or auto")))
	}
	bad = append(bad, d.readKeys(first(own["keys"], "/etc/pki/rpm-gpg/RPM-GPG-KEY-"+c.Distribution+"-metadata*")), d.readFeeds())
	return slices.DeleteFunc(bad, func(e error) bool { return e == nil }).Err()
}

func first(s ...string) string {
	for _, x := range s {
		if x != "" {
			return x
		}
	}
	return ""
}

// findFrontend looks on this device; an install root is worked on with the tools
// of the machine.
func (d *Device) findFrontend() string {
	for _, p := range []string{"dnf", "zypper"} {
		if _, err := exec.LookPath(p); err == nil {
			return p
		}
	}
	return "dnf"
}

// readKeys reads the keys that pointers and snapshots are signed with: the
// metadata keys alone, though rpm trusts more.
func (d *Device) readKeys(pattern string) error {
	files, err := filepath.Glob(d.path(pattern))
	if err != nil {
		return errs.E(errs.Invalid, "keys of /etc/slipway-device.conf", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		keys, err := sign.ParsePublic(text)
		if err != nil {
			return errs.Wrap(err, "%s", f)
		}
		d.conf.Keys = append(d.conf.Keys, keys...)
	}
	if len(d.conf.Keys) == 0 {
		return errs.E(errs.NotFound, "no key "+pattern, errs.Hint("install the distribution's feed package; it brings the .repo file and the keys"))
	}
	return nil
}

// readVars reads variables, one a file. Later folders do not replace earlier ones.
func readVars(dirs ...string) (map[string]string, error) {
	vars := map[string]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			line, _, _ := strings.Cut(string(b), "\n")
			if _, ok := vars[e.Name()]; !ok {
				vars[e.Name()] = strings.TrimSpace(line)
			}
		}
	}
	return vars, nil
}

var variable = regexp.MustCompile(`\$(\{[A-Za-z0-9_]+\}|[A-Za-z0-9_]+)`)

// expand puts in what vars has and leaves the rest ($basearch) to the client.
func expand(s string, vars map[string]string) string {
	return variable.ReplaceAllStringFunc(s, func(v string) string {
		if value, ok := vars[strings.Trim(v, "${}")]; ok {
			return value
		}
		return v
	})
}

// readFeeds reads the enabled sections of all .repo files.
func (d *Device) readFeeds() error {
	var files []string
	for _, dir := range []string{"etc/yum.repos.d", "etc/zypp/repos.d"} {
		found, err := filepath.Glob(d.path(dir + "/*.repo"))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	vars := map[string]string{}
	for k, v := range d.conf.Vars {
		if k != snapshotVariable {
			vars[k] = v
		}
	}
	seen := map[string]bool{}
	ours := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		for _, s := range sections(string(text)) {
			if seen[s.ID] || s.value("enabled") == "0" {
				continue
			}
			seen[s.ID] = true
			base := s.value("baseurl")
			if strings.Contains(base, "$"+snapshotVariable) || strings.Contains(base, "${"+snapshotVariable+"}") {
				s.Scope = expand(base[strings.LastIndexByte(strings.TrimRight(base, "/"), '/')+1:], vars)
				s.Scope = strings.TrimRight(s.Scope, "/")
				ours++
			}
			for i, l := range s.Lines {
				s.Lines[i] = expand(l, vars)
			}
			d.conf.Feeds = append(d.conf.Feeds, s)
		}
	}
	if ours == 0 {
		return errs.E(errs.NotFound, "no enabled feed with $"+snapshotVariable+" in its baseurl in /etc/yum.repos.d", errs.Hint("install the distribution's feed package"))
	}
	return nil
}

// sections splits a .repo file. A continuation line (gpgkey has some) is joined to its key.
func sections(text string) []feedConf {
	var out []feedConf
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
		case trimmed[0] == '[' && strings.HasSuffix(trimmed, "]"):
			out = append(out, feedConf{ID: strings.Trim(trimmed, "[]")})
		case len(out) == 0: // before any section
		case line[0] == ' ' || line[0] == '\t':
			s := &out[len(out)-1]
			if n := len(s.Lines); n > 0 {
				s.Lines[n-1] += " " + trimmed
			}
		default:
			s := &out[len(out)-1]
			s.Lines = append(s.Lines, trimmed)
		}
	}
	return out
}

func (f feedConf) value(key string) string {
	for _, l := range f.Lines {
		if k, v, ok := strings.Cut(l, "="); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// keyValues reads a file of KEY=value lines, as os-release is; quotes go.
func keyValues(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("line %d is not key = value", n)
		}
		v = strings.TrimSpace(v)
		if len(v) >= 2 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
			v = v[1 : len(v)-1]
		}
		out[strings.TrimSpace(k)] = v
	}
	return out, nil
}
