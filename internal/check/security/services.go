package security

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"slipway/internal/distro"
)

// remote are services that give more to the network than anybody should, by the
// begin of their name: they block whoever allows nothing else.
var remote = []string{"telnet", "in.telnetd", "rlogin", "rsh", "rexec", "tftp", "in.tftpd", "ftpd", "vsftpd", "pure-ftpd", "proftpd", "tcf-agent", "gdbserver", "adbd", "android-tools-adbd", "nfs-server", "nfsserver", "smb", "samba", "x11vnc", "rpcbind", "debug-shell", "inetd", "xinetd", "avahi-daemon", "snmpd"}

var startLink = regexp.MustCompile(`^S[0-9][0-9](.+)$`)

// services judges what starts by itself.
func (x *examiner) services(t *tree) {
	x.ask("service")
	systemd, other := false, false
	seen := map[string]bool{}
	one := func(name string, where at, how string) {
		if seen[name] {
			return
		}
		seen[name] = true
		level := distro.Level("")
		for _, r := range remote {
			if strings.HasPrefix(name, r) {
				level = distro.Block
			}
		}
		if strings.HasPrefix(name, "debug-shell") {
			x.find("debug-shell", name, where, "", "%s is enabled: a shell of root on a console (%s)", name, how)
			return
		}
		x.find("service", printable(name), where, level, "%s starts by itself (%s)", printable(name), how)
	}
	for _, d := range []string{"lib/systemd/systemd", "usr/lib/systemd/systemd"} {
		systemd = systemd || t.get(d) != nil
	}
	for _, d := range []string{"etc/systemd/system", "etc/systemd/user"} {
		for _, f := range t.under(d) {
			dir, name := path.Split(strings.TrimPrefix(f.Path, d+"/"))
			dir = strings.TrimSuffix(dir, "/")
			if (strings.HasSuffix(dir, ".wants") || strings.HasSuffix(dir, ".requires") || strings.HasSuffix(dir, ".upholds")) && f.Mode&(fs.ModeSymlink) != 0 && f.Link != "/dev/null" {
				one(name, f.where(t, 0), dir)
			}
		}
	}
	for _, level := range []string{"S", "1", "2", "3", "4", "5"} {
		for _, d := range []string{"etc/rc" + level + ".d", "etc/rc.d/rc" + level + ".d"} {
			for _, f := range t.under(d) {
				if m := startLink.FindStringSubmatch(path.Base(f.Path)); m != nil {
					other = true
					if !systemd { // systemd does not read them where it is init
						one(m[1], f.where(t, 0), "rc"+level+".d")
					}
				}
			}
		}
	}
	if f := t.get("etc/slipway/services"); f != nil && f.kept && !systemd {
		other = true
		lines(f.text, func(n int, line string) {
			if w := strings.Fields(line); len(w) > 0 && !strings.HasPrefix(w[0], "#") {
				one(w[0], f.where(t, n), "/etc/slipway/services")
			}
		})
	}
	if f := t.get("etc/inittab"); f != nil && f.kept && !systemd {
		other = true
		lines(f.text, func(n int, line string) {
			field := strings.SplitN(strings.TrimSpace(line), ":", 4)
			if len(field) < 4 || strings.HasPrefix(field[0], "#") || field[2] != "respawn" && field[2] != "once" && field[2] != "boot" {
				return
			}
			if w := strings.Fields(field[3]); len(w) > 0 {
				name := path.Base(strings.TrimLeft(w[0], "-@+"))
				if !strings.Contains(name, "getty") && !oneOf(name, shells) {
					one(name, f.where(t, n), "/etc/inittab")
				}
			}
		})
	}
	inetd := t.in("etc/xinetd.d")
	if f := t.get("etc/inetd.conf"); f != nil && f.kept {
		lines(f.text, func(n int, line string) {
			if w := strings.Fields(line); len(w) >= 6 && !strings.HasPrefix(w[0], "#") {
				one(w[0], f.where(t, n), "/etc/inetd.conf")
			}
		})
	}
	for _, f := range inetd {
		text := strings.ToLower(string(f.text))
		if !strings.Contains(text, "disable") || strings.Contains(strings.ReplaceAll(strings.ReplaceAll(text, " ", ""), "\t", ""), "disable=no") {
			one(path.Base(f.Path), f.where(t, 0), "/etc/xinetd.d")
		}
	}
	if !systemd && !other {
		x.note("no init that is known: services are not judged")
	}
}

func oneOf(s string, list []string) bool {
	for _, l := range list {
		if s == l {
			return true
		}
	}
	return false
}

// id is how a finding of an object is named.
func (x *examiner) id(t *tree, rule, object string) string {
	if x.prefixes && t.part.Number > 0 {
		return fmt.Sprintf("%s:p%d/%s", rule, t.part.Number, object)
	}
	return rule + ":" + object
}
