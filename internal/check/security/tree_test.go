package security_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/check/security"
)

// node is one file of a tree; a link has a target, a folder neither text nor target.
type node struct {
	text, link string
	mode       int64 // 0 is 0644, of a folder 0755
	uid        int
	caps       string
	folder     bool
}

const (
	key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n-----END OPENSSH PRIVATE KEY-----\n"
	// CAP_NET_RAW permitted and effective, revision 2.
	netRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// sound is a root file system with nothing to find.
func sound() map[string]node {
	return map[string]node{
		"etc/passwd":         {text: "root:x:0:0:root:/root:/bin/sh\ndaemon:*:1:1::/:/bin/false\n"},
		"etc/shadow":         {text: "root:*:20454:0:99999:7:::\ndaemon:!:20454:0:99999:7:::\n", mode: 0o400},
		"etc/os-release":     {link: "../usr/lib/os-release"},
		"usr/lib/os-release": {text: "ID=halyard\nVERSION_ID=1.2\n"},
		"etc/machine-id":     {text: ""},
		"etc/yum.repos.d/halyard.repo": {text: "[halyard]\nname=Halyard\nbaseurl=$slipway_url/1/current/noarch\ngpgcheck=1\nrepo_gpgcheck=1\n" +
			"gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-halyard\n  file:///etc/pki/rpm-gpg/RPM-GPG-KEY-$next\n"},
		"etc/dnf/vars/next":                   {text: "2027\n"},
		"etc/pki/rpm-gpg/RPM-GPG-KEY-halyard": {text: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"},
		"etc/pki/rpm-gpg/RPM-GPG-KEY-2027":    {text: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"},
		"etc/ssh/sshd_config":                 {text: "# PermitRootLogin yes\nPermitRootLogin prohibit-password\nPermitRootLogin yes\nPermitEmptyPasswords no\n"},
		"etc/pam.d/common-auth":               {text: "auth [success=1 default=ignore] pam_unix.so nullok_secure\n"},
		"etc/inittab":                         {text: "::sysinit:/etc/init.d/rcS\nttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100\n"},
		"etc/default/dropbear":                {text: "# Disallow root logins by default\nDROPBEAR_EXTRA_ARGS=\"-w\"\n"},
		"etc/rc5.d/S20syslog":                 {link: "../init.d/syslog"},
		"etc/init.d/syslog":                   {text: "#!/bin/sh\n", mode: 0o755},
		"usr/sbin/dropbear":                   {text: "\x7fELF\x00-----BEGIN RSA PRIVATE KEY-----\x00/tmp/work/none", mode: 0o755},
		"usr/bin/su":                          {text: "\x7fELF", mode: 0o4755},
		"usr/bin/ping":                        {text: "\x7fELF", mode: 0o755, caps: netRaw},
		"bin":                                 {link: "usr/bin"},
		"tmp":                                 {folder: true, mode: 0o1777},
		"usr/lib/openssl/ptest/test/key.pem":  {text: key},
		"usr/share/doc/keys.txt":              {text: "A key begins with -----BEGIN PRIVATE KEY----- and then its data.\n"},
	}
}

// pack writes a tree as a tar archive.
func pack(t testing.TB, tree map[string]node) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		n := tree[name]
		h := &tar.Header{Name: "./" + name, Mode: n.mode, Uid: n.uid, Typeflag: tar.TypeReg, Size: int64(len(n.text)), Format: tar.FormatPAX}
		switch {
		case n.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, n.link, 0o777
		case n.folder:
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if n.folder {
				h.Mode = 0o755
			}
		}
		if n.caps != "" {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": n.caps}
		}
		err := w.WriteHeader(h)
		if err == nil {
			_, err = w.Write([]byte(n.text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "rootfs.tar")
	if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}

// unpack writes a tree as a folder, without owners and capabilities.
func unpack(t testing.TB, tree map[string]node) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		n, path := tree[name], filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		mode := n.mode
		switch {
		case n.link != "":
			if err := os.Symlink(n.link, path); err != nil {
				t.Fatal(err)
			}
			continue
		case n.folder:
			err = errors.Join(err, os.MkdirAll(path, 0o755))
			if mode == 0 {
				mode = 0o755
			}
		default:
			err = errors.Join(err, os.WriteFile(path, []byte(n.text), 0o644))
			if mode == 0 {
				mode = 0o644
			}
		}
		perm := fs.FileMode(mode & 0o777)
		for bit, m := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
			if mode&bit != 0 {
				perm |= m
			}
		}
		if err := errors.Join(err, os.Chmod(path, perm)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tool runs a program as root of a user namespace, so that files belong to root.
func tool(t testing.TB, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	if os.Getuid() != 0 {
		cmd = exec.Command("unshare", append([]string{"-r"}, argv...)...)
	}
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "E2FSPROGS_FAKE_TIME=1767614400")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%s is not installed: apt-get install e2fsprogs squashfs-tools dosfstools mtools fdisk", argv[0])
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

func examine(t testing.TB, path string, o security.Options) *security.Report {
	t.Helper()
	r, err := security.Examine(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// told are the findings as "level id".
func told(r *security.Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, string(f.Level)+" "+f.ID)
	}
	slices.Sort(out)
	return out
}
