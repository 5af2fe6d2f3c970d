package security

import (
	"path"
	"strings"

	"slipway/internal/distro"
)

// section is one of an ini file, as dnf and zypper read it.
type section struct {
	name   string
	line   int
	values map[string]string
	at     map[string]int
}

func (s *section) get(key, other string) string {
	if v, ok := s.values[key]; ok {
		return v
	}
	return other
}

func yes(v string) bool {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "1", "yes", "true", "on", "enabled":
		return true
	}
	return false
}

// ini reads sections; a line that begins with a space goes on with the one before.
func ini(text []byte) []*section {
	var out []*section
	last := ""
	lines(text, func(n int, line string) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
		case trimmed[0] == '[' && strings.Contains(trimmed, "]"):
			out = append(out, &section{name: trimmed[1:strings.Index(trimmed, "]")], line: n, values: map[string]string{}, at: map[string]int{}})
			last = ""
		case len(out) == 0:
		case (line[0] == ' ' || line[0] == '\t') && last != "":
			out[len(out)-1].values[last] += " " + trimmed
		default:
			if k, v, ok := strings.Cut(trimmed, "="); ok {
				last = strings.ToLower(strings.TrimSpace(k))
				s := out[len(out)-1]
				s.values[last], s.at[last] = strings.TrimSpace(v), n
			}
		}
	})
	return out
}

// feeds judges where packages come from: dnf, zypper, opkg and apt.
func (x *examiner) feeds(t *tree) {
	x.ask("feed")
	main := &section{values: map[string]string{}}
	found := 0
	for _, n := range []string{"etc/yum.conf", "etc/dnf/dnf.conf"} {
		f := t.get(n)
		if f == nil || !f.kept {
			continue
		}
		for _, s := range ini(f.text) {
			if s.name == "main" {
				for k, v := range s.values {
					main.values[k] = v
				}
				continue
			}
			found++
			x.feed(t, f, s, main, "dnf")
		}
	}
	for _, d := range []string{"etc/yum.repos.d", "etc/dnf/repos.d", "etc/distro.repos.d", "usr/share/dnf5/repos.d", "etc/zypp/repos.d"} {
		for _, f := range t.in(d) {
			if !strings.HasSuffix(f.Path, ".repo") {
				continue
			}
			for _, s := range ini(f.text) {
				if s.name == "main" {
					continue
				}
				found++
				kind := "dnf"
				if strings.HasPrefix(d, "etc/zypp") {
					kind = "zypper"
				}
				x.feed(t, f, s, main, kind)
			}
		}
	}
	found += x.opkg(t) + x.apt(t)
	if found == 0 {
		x.note("no feed is configured")
	}
}

func (x *examiner) feed(t *tree, f *file, s, main *section, kind string) {
	on := yes(s.get("enabled", "1"))
	level := distro.Block
	if !on {
		level = distro.Warn
	}
	what := "feed " + printable(s.name)
	if !on {
		what += " (off)"
	}
	line := func(key string) int {
		if n := s.at[key]; n > 0 {
			return n
		}
		return s.line
	}
	packages := s.get("pkg_gpgcheck", s.get("gpgcheck", main.get("pkg_gpgcheck", main.get("gpgcheck", map[string]string{"zypper": "1"}[kind]))))
	if !yes(packages) {
		x.find("feed", s.name+":gpgcheck", f.where(t, line("gpgcheck")), level, "%s does not check the signatures of packages", what)
	}
	metadata := s.get("repo_gpgcheck", main.get("repo_gpgcheck", map[string]string{"zypper": "1"}[kind]))
	if !yes(metadata) {
		x.find("feed", s.name+":repo_gpgcheck", f.where(t, line("repo_gpgcheck")), level, "%s does not check the signature of its metadata: an old or partial list is believed", what)
	}
	if v := s.get("sslverify", main.get("sslverify", "1")); !yes(v) {
		x.find("feed", s.name+":sslverify", f.where(t, line("sslverify")), distro.Warn, "%s does not check the server's certificate", what)
	}
	keys := strings.FieldsFunc(s.get("gpgkey", main.get("gpgkey", "")), func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
	if len(keys) == 0 && kind == "dnf" {
		x.find("feed", s.name+":gpgkey", f.where(t, s.line), level, "%s names no key (gpgkey)", what)
	}
	for _, k := range keys {
		k = t.expand(k)
		where := f.where(t, line("gpgkey"))
		local, ok := strings.CutPrefix(k, "file://")
		switch {
		case strings.Contains(k, "$"):
			x.find("feed", s.name+":gpgkey", where, distro.Warn, "%s: whether there is the key %s depends on a variable", what, printable(k))
		case !ok && (strings.HasPrefix(k, "http://") || strings.HasPrefix(k, "https://") || strings.HasPrefix(k, "ftp://")):
			x.find("feed", s.name+":gpgkey", where, level, "%s fetches its key (%s) from the place that it is to protect from", what, printable(k))
		default:
			if !ok {
				local = k
			}
			if key := t.get(strings.TrimPrefix(path.Clean(local), "/")); key == nil || !key.Mode.IsRegular() || key.Size == 0 {
				x.find("feed", s.name+":gpgkey", where, level, "%s names a key that is not there: %s", what, printable(k))
			}
		}
	}
}

// expand replaces dnf's variables by what the image says of them.
func (t *tree) expand(s string) string {
	for _, dir := range []string{"etc/dnf/vars", "etc/yum/vars"} {
		for _, f := range t.in(dir) {
			name, value := path.Base(f.Path), strings.TrimSpace(string(f.text))
			s = strings.ReplaceAll(s, "${"+name+"}", value)
			s = strings.ReplaceAll(s, "$"+name, value)
		}
	}
	return s
}

// opkg judges the feeds of opkg.conf(5).
func (x *examiner) opkg(t *tree) int {
	files := t.in("etc/opkg")
	if f := t.get("etc/opkg.conf"); f != nil && f.kept {
		files = append(files, f)
	}
	checked, count := false, 0
	for _, f := range files {
		lines(f.text, func(_ int, line string) {
			if w := strings.Fields(line); len(w) >= 2 && w[0] == "option" && w[1] == "check_signature" && (len(w) == 2 || w[2] != "0") {
				checked = true
			}
		})
	}
	for _, f := range files {
		lines(f.text, func(n int, line string) {
			w := strings.Fields(line)
			if len(w) < 3 || w[0] != "src" && w[0] != "src/gz" && w[0] != "dist" && w[0] != "dist/gz" {
				return
			}
			if count++; !checked {
				x.find("feed", w[1]+":check_signature", f.where(t, n), "", "feed %s of opkg: no signature is checked (option check_signature 1)", printable(w[1]))
			}
		})
	}
	return count
}

// apt judges sources.list(5): what is trusted without a signature.
func (x *examiner) apt(t *tree) int {
	count := 0
	files := t.in("etc/apt/sources.list.d")
	if f := t.get("etc/apt/sources.list"); f != nil && f.kept {
		files = append(files, f)
	}
	for _, f := range files {
		lines(f.text, func(n int, line string) {
			line = strings.TrimSpace(line)
			key, value, ok := strings.Cut(strings.ToLower(line), ":")
			switch {
			case strings.HasPrefix(line, "deb ") || strings.HasPrefix(line, "deb-src "):
				if count++; strings.Contains(line, "trusted=yes") {
					x.find("feed", f.Path+":trusted", f.where(t, n), "", "a feed of apt is trusted without a signature: %s", printable(line))
				}
			case ok && key == "uris":
				count++
			case ok && key == "trusted" && yes(value):
				x.find("feed", f.Path+":trusted", f.where(t, n), "", "a feed of apt is trusted without a signature (Trusted: yes)")
			}
		})
	}
	for _, f := range append(t.in("etc/apt/apt.conf.d"), t.in("etc/apt")...) {
		lines(f.text, func(n int, line string) {
			if k := strings.ToLower(strings.TrimSpace(line)); (strings.Contains(k, "allowunauthenticated") || strings.Contains(k, "allow-insecure-repositories") || strings.Contains(k, "allowinsecurerepositories")) &&
				(strings.Contains(k, "true") || strings.Contains(k, "\"1\"") || strings.Contains(k, "yes")) && !strings.HasPrefix(k, "//") {
				x.find("feed", f.Path+":unauthenticated", f.where(t, n), "", "apt takes packages without signatures: %s", printable(line))
			}
		})
	}
	return count
}
