package security

import (
	"io/fs"
	"path"
	"strconv"
	"strings"

	"slipway/internal/distro"
)

// account is a line of /etc/passwd.
type account struct {
	name, password string
	uid            int // -1 when it is no number
	line           int
}

// accountFile gives a file of accounts, and judges who may write it; nil when it is
// not there, or was too large to be read, which is a finding.
func (x *examiner) accountFile(t *tree, name string) *file {
	f := t.get(name)
	if f == nil {
		return nil
	}
	if !f.kept {
		x.find("password", name, f.where(t, 0), distro.Block, "/%s has %d bytes, and was not read", name, f.Size)
		return nil
	}
	x.writable(t, f, name)
	return f
}

// passwords judges passwd(5) and shadow(5), and the copies that tools leave.
func (x *examiner) accounts(t *tree) {
	x.ask("password", "uid0", "shadow")
	var known map[uint32]bool
	for _, name := range []string{"etc/passwd", "etc/passwd-", "usr/lib/passwd"} {
		f := x.accountFile(t, name)
		if f == nil {
			continue
		}
		for _, a := range passwd(f.text) {
			x.password(t, f, name, a.name, a.password, a.line)
			if name != "etc/passwd-" {
				if known == nil {
					known = map[uint32]bool{}
				}
				if known[uint32(a.uid)] = true; a.uid == 0 && a.name != "root" {
					x.find("uid0", a.name, f.where(t, a.line), "", "account %s has user number 0, as root has", a.name)
				}
			}
		}
	}
	if t.get("etc/passwd") == nil {
		x.note("no /etc/passwd: accounts are not judged")
	}
	for _, name := range []string{"etc/shadow", "etc/shadow-", "usr/lib/shadow"} {
		f := x.accountFile(t, name)
		if f == nil {
			continue
		}
		if f.Mode.Perm()&0o007 != 0 {
			x.find("shadow", name, f.where(t, 0), "", "/%s has mode %04o: everybody may read it", name, f.Mode.Perm())
		}
		lines(f.text, func(n int, line string) {
			if who, rest, ok := strings.Cut(line, ":"); ok && who != "" {
				p, _, _ := strings.Cut(rest, ":")
				x.password(t, f, name, who, p, n)
			}
		})
	}
	for _, name := range []string{"etc/gshadow", "etc/gshadow-"} {
		if f := t.get(name); f != nil && f.kept {
			if f.Mode.Perm()&0o007 != 0 {
				x.find("shadow", name, f.where(t, 0), "", "/%s has mode %04o: everybody may read it", name, f.Mode.Perm())
			}
			lines(f.text, func(n int, line string) {
				if who, rest, ok := strings.Cut(line, ":"); ok {
					if p, _, _ := strings.Cut(rest, ":"); hash(p) {
						x.find("password", "group "+who, f.where(t, n), distro.Warn, "group %s has a password in /%s", who, name)
					}
				}
			})
		}
	}
	x.owners(t, known)
}

func passwd(text []byte) []account {
	var out []account
	lines(text, func(n int, line string) {
		f := strings.Split(line, ":")
		if len(f) < 3 || f[0] == "" || strings.HasPrefix(line, "#") {
			return
		}
		a := account{name: f[0], password: f[1], uid: -1, line: n}
		if uid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			a.uid = int(uid)
		}
		out = append(out, a)
	})
	return out
}

// hash reports whether a password field is one that a password fits.
func hash(field string) bool {
	return field != "" && field != "x" && strings.Trim(field, "*!") != "" && !strings.HasPrefix(field, "!") && !strings.HasPrefix(field, "*")
}

// password judges one field. A lock (!) before a hash keeps the password in the
// image, for passwd -u to bring back.
func (x *examiner) password(t *tree, f *file, in, who, field string, line int) {
	locked := strings.TrimLeft(field, "!*")
	switch {
	case field == "":
		x.find("password", who, f.where(t, line), "", "account %s has an empty password in /%s", who, in)
	case hash(field):
		x.find("password", who, f.where(t, line), "", "account %s has a password in /%s, the same in every copy of the image", who, in)
	case strings.HasPrefix(locked, "$"):
		x.find("password", who, f.where(t, line), distro.Warn, "account %s is locked, with a password behind the lock in /%s", who, in)
	}
}

// writable judges who may change a file that decides who may log in.
func (x *examiner) writable(t *tree, f *file, name string) {
	if t.ownerless() {
		return
	}
	if f.UID != 0 || f.Mode.Perm()&0o022 != 0 {
		x.find("shadow", name, f.where(t, 0), "", "/%s belongs to user %d and has mode %04o: others than root may write it", name, f.UID, f.Mode.Perm())
	}
}

// ownerless reports whether the owners in a tree say nothing: a folder that another
// user than root has unpacked, a file system without owners.
func (t *tree) ownerless() bool {
	r := t.files["."]
	return t.part.Kind == "vfat" || t.part.Kind == "folder" && r != nil && r.UID != 0
}

// owners judges whether each file belongs to somebody.
func (x *examiner) owners(t *tree, known map[uint32]bool) {
	if known == nil {
		return
	}
	if t.ownerless() {
		x.note("the files belong to a user of this machine: owners are not judged")
		return
	}
	x.ask("owner")
	known[0], known[65534] = true, true
	count, first := map[uint32]int{}, map[uint32]*file{}
	for _, n := range t.names {
		if f := t.files[n]; !known[f.UID] {
			if count[f.UID]++; first[f.UID] == nil {
				first[f.UID] = f
			}
		}
	}
	for uid, n := range count {
		x.find("owner", strconv.Itoa(int(uid)), first[uid].where(t, 0), "", "%d files belong to user %d, an account that is not there: /%s", n, uid, first[uid].Path)
	}
}

// modes judges rights: setuid, setgid, capabilities, what everybody may write.
func (x *examiner) modes(t *tree) {
	x.ask("setuid", "setgid", "capability", "world-writable")
	if t.part.Kind == "vfat" {
		return
	}
	for _, n := range t.names {
		f := t.files[n]
		regular := f.Mode.IsRegular()
		if regular && f.Mode&fs.ModeSetuid != 0 {
			x.find("setuid", n, f.where(t, 0), "", "/%s runs as its owner, user %d (mode %s)", n, f.UID, octal(f.Mode))
		}
		if regular && f.Mode&fs.ModeSetgid != 0 && f.Mode.Perm()&0o010 != 0 {
			x.find("setgid", n, f.where(t, 0), "", "/%s runs as its group, %d (mode %s)", n, f.GID, octal(f.Mode))
		}
		if len(f.Caps) > 0 {
			x.find("capability", n, f.where(t, 0), "", "/%s has %s", n, capabilities(f.Caps))
		}
		if f.Mode.Perm()&0o002 == 0 {
			continue
		}
		switch {
		case f.Mode.IsDir() && f.Mode&fs.ModeSticky == 0:
			x.find("world-writable", n, f.where(t, 0), "", "everybody may write into the folder /%s, and remove what others have there (mode %s)", n, octal(f.Mode))
		case regular:
			x.find("world-writable", n, f.where(t, 0), "", "everybody may write /%s (mode %s)", n, octal(f.Mode))
		}
	}
}

func octal(m fs.FileMode) string {
	n := uint64(m.Perm())
	for _, b := range []struct {
		bit fs.FileMode
		n   uint64
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&b.bit != 0 {
			n |= b.n
		}
	}
	s := strconv.FormatUint(n, 8)
	return strings.Repeat("0", max(0, 4-len(s))) + s
}

// keyFiles judges names: ssh keys, secrets, what a person leaves behind.
func (x *examiner) keyFiles(t *tree) {
	x.ask("host-key", "authorized-key", "user-key", "credential", "history")
	for _, n := range t.names {
		f := t.files[n]
		if !f.Mode.IsRegular() || f.Size == 0 && f.Hard == "" {
			continue
		}
		dir, base := path.Split(n)
		ssh := strings.HasSuffix(dir, ".ssh/")
		switch {
		case strings.HasPrefix(base, "ssh_host_") && strings.HasSuffix(base, "_key"), strings.HasPrefix(base, "dropbear_") && strings.HasSuffix(base, "_host_key"):
			x.find("host-key", n, f.where(t, 0), "", "/%s is an ssh host key: every device would have the same", n)
		case base == "authorized_keys", base == "authorized_keys2":
			line := 0
			lines(f.text, func(i int, s string) {
				if s = strings.TrimSpace(s); s != "" && s[0] != '#' && line == 0 {
					line = i
				}
			})
			if line > 0 || !f.kept {
				x.find("authorized-key", n, f.where(t, line), "", "/%s lets somebody in: %s", n, keyName(f.text, line))
			}
		case strings.HasPrefix(base, "id_") && !strings.HasSuffix(base, ".pub") && (ssh || sshKeyName(base)):
			x.find("user-key", n, f.where(t, 0), "", "/%s is a person's ssh key", n)
		case base == ".netrc" || base == ".git-credentials" || base == "credentials" && strings.HasSuffix(dir, ".aws/"):
			x.find("credential", n, f.where(t, 0), "", "/%s holds passwords for other machines", n)
		case base == ".bash_history" || base == ".ash_history" || base == ".python_history" || base == ".viminfo" || base == ".lesshst":
			x.find("history", n, f.where(t, 0), "", "/%s is what a person did", n)
		}
	}
}

func sshKeyName(base string) bool {
	for _, k := range []string{"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk", "id_dropbear"} {
		if base == k {
			return true
		}
	}
	return false
}

// keyName gives kind and comment of a line of authorized_keys, not the key.
func keyName(text []byte, line int) string {
	name := "a key"
	lines(text, func(n int, s string) {
		if n != line {
			return
		}
		f := strings.Fields(s)
		for i, w := range f {
			if strings.HasPrefix(w, "ssh-") || strings.HasPrefix(w, "ecdsa-") || strings.HasPrefix(w, "sk-") {
				name = w
				if i+2 < len(f) {
					name += " of " + printable(strings.Join(f[i+2:], " "))
				}
				return
			}
		}
	})
	return name
}

// printable makes what an image holds fit for a line of a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return '?'
		}
		return r
	}, s)
	if len(s) > 120 {
		s = strings.ToValidUTF8(s[:120], "") + "..."
	}
	return s
}

// contents tells what the scanner found.
func (x *examiner) contents(t *tree) {
	x.ask("private-key", "build-path", "nested-image")
	for _, n := range t.names {
		f := t.files[n]
		for _, h := range f.hits {
			where := f.where(t, h.line)
			switch h.kind {
			case "private-key":
				if x.ids[x.id(t, "host-key", n)] || x.ids[x.id(t, "user-key", n)] {
					continue
				}
				x.find("private-key", n, where, "", "/%s holds a private key (%s)", n, h.text)
			case "build-path":
				x.find("build-path", n, where, "", "/%s names a folder of the build host: %s", n, printable(h.text))
			case "nested-image":
				x.find("nested-image", n, where, "", "/%s is an image itself (%s)", n, h.text)
			case "unscanned":
				x.find("unread", n, where, distro.Warn, "/%s has %d bytes, of which the first %d were read", n, f.Size, int64(maxScan))
			}
		}
	}
}

// identity judges what each device must make for itself.
func (x *examiner) identity(t *tree) {
	x.ask("machine-id", "random-seed")
	for _, n := range []string{"etc/machine-id", "var/lib/dbus/machine-id"} {
		f := t.files[n] // a link of D-Bus to /etc/machine-id is fine
		if f == nil || !f.Mode.IsRegular() {
			continue
		}
		id := strings.TrimSpace(string(f.text))
		if !f.kept || id != "" && id != "uninitialized" {
			x.find("machine-id", n, f.where(t, 1), "", "/%s is set: every device would be the same machine", n)
		}
	}
	for _, n := range []string{"var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/random-seed", "var/lib/seedrng/seed.credit"} {
		if f := t.files[n]; f != nil && f.Mode.IsRegular() && f.Size > 0 {
			x.find("random-seed", n, f.where(t, 0), "", "/%s is a seed that every device would have", n)
		}
	}
}
