package security

import (
	"path"
	"slices"
	"strings"

	"slipway/internal/distro"
)

// login judges who gets in without having been let in by the device's owner: the
// traces of a development build.
func (x *examiner) login(t *tree) {
	x.ask("root-login", "empty-password-login", "autologin", "debug-shell", "nullok", "sudo", "postinst-logging")
	x.sshd(t)
	x.dropbear(t)
	x.inittab(t)
	x.gettys(t)
	x.displays(t)
	x.bootLoader(t)
	x.secrets(t)
	for _, d := range []string{"etc/pam.d", "usr/lib/pam.d"} {
		for _, f := range t.in(d) {
			lines(f.text, func(n int, line string) {
				if w := strings.Fields(line); len(w) > 0 && !strings.HasPrefix(w[0], "#") && strings.TrimPrefix(w[0], "-") == "auth" && slices.Contains(w, "nullok") {
					x.find("nullok", f.Path, f.where(t, n), "", "/%s lets in who has an empty password: %s", f.Path, printable(strings.Join(w, " ")))
				}
			})
		}
	}
	sudoers := t.in("etc/sudoers.d")
	if f := t.get("etc/sudoers"); f != nil && f.kept {
		sudoers = append(sudoers, f)
	}
	for _, f := range sudoers {
		lines(f.text, func(n int, line string) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && strings.Contains(line, "NOPASSWD") {
				x.find("sudo", f.Path, f.where(t, n), "", "sudo asks for no password: %s", printable(line))
			}
		})
	}
	if f := t.get("etc/default/postinst"); f != nil {
		lines(f.text, func(n int, line string) {
			if strings.TrimSpace(line) == "POSTINST_LOGGING=1" {
				x.find("postinst-logging", f.Path, f.where(t, n), "", "installation scripts are logged: a trace of a development build")
			}
		})
	}
}

// sshd reads sshd_config(5) as sshd does: the first value of a keyword counts,
// and Match blocks are judged each on their own.
func (x *examiner) sshd(t *tree) {
	for _, name := range []string{"etc/ssh/sshd_config", "etc/ssh/sshd_config_readonly", "usr/etc/ssh/sshd_config"} {
		f := t.get(name)
		if f == nil || !f.kept {
			continue
		}
		seen := map[string]bool{}
		var read func(f *file, depth int)
		read = func(f *file, depth int) {
			match := false
			lines(f.text, func(n int, line string) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
				if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.Contains(k, " ") {
					key, value = k, v
				}
				key = strings.ToLower(strings.TrimSpace(strings.ReplaceAll(key, "\t", " ")))
				if k, v, ok := strings.Cut(key, " "); ok {
					key, value = k, v+" "+value
				}
				value = strings.ToLower(strings.Trim(strings.TrimSpace(value), `"`))
				switch key {
				case "match":
					match = true
				case "include":
					for _, g := range strings.Fields(value) {
						if !path.IsAbs(g) {
							g = "/etc/ssh/" + g
						}
						for _, inc := range t.in(path.Dir(g)[1:]) {
							if ok, _ := path.Match(path.Base(g), path.Base(inc.Path)); ok && depth < 16 {
								read(inc, depth+1)
							}
						}
					}
				case "permitrootlogin", "permitemptypasswords":
					if first := !seen[key]; !match && !first {
						return
					}
					if !match {
						seen[key] = true
					}
					if value != "yes" {
						return
					}
					if key == "permitrootlogin" {
						x.find("root-login", f.Path, f.where(t, n), "", "sshd lets root in by password (PermitRootLogin yes)")
					} else {
						x.find("empty-password-login", f.Path, f.where(t, n), "", "sshd lets in who has an empty password (PermitEmptyPasswords yes)")
					}
				}
			})
		}
		read(f, 0)
	}
}

// dropbear has its options on its command line: in /etc/default/dropbear, in a unit
// or in a script of init.
func (x *examiner) dropbear(t *tree) {
	if t.get("usr/sbin/dropbear") == nil && t.get("usr/sbin/dropbearmulti") == nil && t.get("usr/bin/dropbear") == nil {
		return
	}
	var files []*file
	for _, n := range []string{"etc/default/dropbear", "etc/init.d/dropbear", "etc/conf.d/dropbear"} {
		if f := t.get(n); f != nil && f.kept {
			files = append(files, f)
		}
	}
	for _, d := range []string{"etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"} {
		for _, f := range t.in(d) {
			if strings.HasPrefix(path.Base(f.Path), "dropbear") {
				files = append(files, f)
			}
		}
	}
	var known, limits bool
	var where at
	for _, f := range files {
		lines(f.text, func(n int, line string) {
			line = strings.TrimSpace(line)
			// A shell's test of files is no option: [ -s "$KEY" ], test -w.
			if strings.HasPrefix(line, "#") || strings.Contains(line, "[ ") || strings.HasPrefix(line, "test ") {
				return
			}
			if !known && (strings.Contains(line, "dropbear") || strings.Contains(line, "DROPBEAR")) {
				known, where = true, f.where(t, n)
			}
			for w := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(" \t\"'=;", r) }) {
				switch w {
				case "-B":
					x.find("empty-password-login", f.Path, f.where(t, n), "", "dropbear lets in who has an empty password (-B)")
				case "-w", "-s", "-g":
					limits = true
				}
			}
		})
	}
	if !known {
		where = at{t: t, path: "usr/sbin/dropbear"}
	}
	if !limits {
		x.find("root-login", "dropbear", where, distro.Warn, "dropbear lets root in by password, once root has one: it is started without -w, -s or -g")
	}
}

var shells = []string{"sh", "bash", "ash", "dash", "zsh", "busybox"}

// inittab judges init's consoles: id:runlevels:action:process, of sysvinit or busybox.
func (x *examiner) inittab(t *tree) {
	f := t.get("etc/inittab")
	if f == nil || !f.kept {
		return
	}
	lines(f.text, func(n int, line string) {
		field := strings.SplitN(strings.TrimSpace(line), ":", 4)
		if len(field) < 4 || strings.HasPrefix(field[0], "#") {
			return
		}
		action, words := field[2], strings.Fields(field[3])
		if len(words) == 0 {
			return
		}
		if action != "respawn" && action != "askfirst" && action != "once" {
			return // sysinit and the like wait for nobody at a console
		}
		program := path.Base(strings.TrimLeft(words[0], "-@+"))
		switch {
		case slices.Contains(shells, program) && len(words) == 1:
			x.find("autologin", "inittab:"+field[0]+":"+program, f.where(t, n), "", "init gives a shell to the console: %s", printable(line))
		case strings.Contains(program, "getty") && autologin(words[1:]):
			x.find("autologin", "inittab:"+field[0]+":"+program, f.where(t, n), "", "a console logs somebody in without a password: %s", printable(line))
		}
	})
	if f := t.get("bin/start_getty"); f != nil && f.kept {
		lines(f.text, func(n int, line string) {
			if !strings.HasPrefix(strings.TrimSpace(line), "#") && strings.Contains(line, "--autologin") {
				x.find("autologin", "start_getty", f.where(t, n), "", "a console logs somebody in without a password: %s", printable(line))
			}
		})
	}
}

// autologin judges the options of a getty, util-linux's or busybox's.
func autologin(options []string) bool {
	for i, o := range options {
		switch {
		case o == "-a" || o == "--autologin" || strings.HasPrefix(o, "--autologin="):
			return true
		case (o == "-l" || o == "--login-program") && i+1 < len(options) && slices.Contains(shells, path.Base(options[i+1])):
			return true
		}
	}
	return false
}

// gettys judges systemd's: templates, instances and what overrides them.
func (x *examiner) gettys(t *tree) {
	for _, d := range []string{"etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"} {
		if f := t.files[d]; f == nil && len(t.under(d)) == 0 {
			continue
		}
		for _, f := range t.under(d) {
			if !f.kept || !strings.Contains(f.Path, "getty") && !strings.Contains(f.Path, "console") {
				continue
			}
			lines(f.text, func(n int, line string) {
				value, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=")
				if !ok {
					return
				}
				words := strings.Fields(value)
				if len(words) == 0 {
					return
				}
				program := path.Base(strings.TrimLeft(words[0], "-@:+!"))
				if strings.Contains(program, "getty") && autologin(words[1:]) || slices.Contains(shells, program) && len(words) == 1 {
					x.find("autologin", f.Path, f.where(t, n), "", "a console logs somebody in without a password: %s", printable(line))
				}
			})
		}
	}
}

// displays judges the display managers.
func (x *examiner) displays(t *tree) {
	var files []*file
	for _, d := range []string{"etc/lightdm", "etc/lightdm/lightdm.conf.d", "etc/sddm.conf.d", "etc/gdm", "etc/gdm3", "etc/lxdm"} {
		files = append(files, t.in(d)...)
	}
	if f := t.get("etc/sddm.conf"); f != nil && f.kept {
		files = append(files, f)
	}
	for _, f := range files {
		for _, s := range ini(f.text) {
			for _, k := range sorted(s.values) {
				v := s.values[k]
				if v != "" && (k == "autologin-user" || k == "user" && s.name == "Autologin" || k == "autologin" && s.name == "base" || k == "automaticloginenable" && yes(v)) {
					x.find("autologin", f.Path, f.where(t, s.at[k]), "", "the desktop logs somebody in without a password: %s=%s", k, printable(v))
				}
			}
		}
	}
}

// bootLoader judges kernel command lines that stand in the image.
func (x *examiner) bootLoader(t *tree) {
	for _, n := range t.names {
		f := t.files[n]
		if !f.kept || len(f.text) == 0 || strings.HasPrefix(n, "etc/") && !strings.HasPrefix(n, "etc/kernel/") && n != "etc/default/grub" {
			continue
		}
		if d, base := path.Split(n); !bootFile(base) && !strings.Contains(d, "loader/entries/") && n != "etc/kernel/cmdline" && n != "etc/default/grub" {
			continue
		}
		lines(f.text, func(i int, line string) {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				return
			}
			for w := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(" \t\"'", r) }) {
				program, ok := strings.CutPrefix(w, "init=")
				if !ok {
					program, ok = strings.CutPrefix(w, "rdinit=")
				}
				if ok && slices.Contains(shells, path.Base(program)) || w == "systemd.debug_shell" || w == "systemd.debug-shell" || strings.HasPrefix(w, "systemd.debug_shell=") || strings.HasPrefix(w, "systemd.debug-shell=") && !strings.HasSuffix(w, "=0") {
					x.find("debug-shell", n, f.where(t, i), "", "the boot loader starts a shell of root: %s", printable(w))
				}
			}
		})
	}
}

// bootFiles configure boot loaders; on FAT in any case.
var bootFiles = []string{"extlinux.conf", "syslinux.cfg", "isolinux.cfg", "grub.cfg", "cmdline.txt", "uenv.txt", "boot.cmd", "slipway-boot.conf"}

func bootFile(base string) bool {
	return oneOf(strings.ToLower(base), bootFiles)
}

// secrets judges configuration that holds a password for a network.
func (x *examiner) secrets(t *tree) {
	files := append(t.in("etc/wpa_supplicant"), t.in("etc/NetworkManager/system-connections")...)
	files = append(files, t.in("var/lib/iwd")...)
	if f := t.get("etc/wpa_supplicant.conf"); f != nil && f.kept {
		files = append(files, f)
	}
	for _, f := range files {
		lines(f.text, func(n int, line string) {
			k, v, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || strings.HasPrefix(k, "#") || strings.Trim(v, `" `) == "" {
				return
			}
			switch strings.ToLower(strings.TrimSpace(k)) {
			case "psk", "password", "passphrase", "wep_key0", "sae_password", "private_key_passwd", "private-key-password":
				x.find("credential", f.Path, f.where(t, n), "", "/%s holds a password for a network", f.Path)
			}
		})
	}
}
