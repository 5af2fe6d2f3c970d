package rpmmd

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/rpmpack"

	"slipway/internal/rpm"
)

// tool fails the test when a Debian package is missing.
func tool(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", program, debian)
	}
	return path
}

func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8"), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s\n%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// realPackages builds testdata/fixture.spec into dir.
func realPackages(t *testing.T, dir string) {
	t.Helper()
	spec, err := filepath.Abs("testdata/fixture.spec")
	if err != nil {
		t.Fatal(err)
	}
	run(t, []string{"HOME=" + t.TempDir()}, tool(t, "rpmbuild", "rpm"), "-ba", "--quiet", "--define", "_topdir "+t.TempDir(), "--define", "_rpmdir "+dir, "--define", "_srcrpmdir "+dir,
		"--define", "_sourcedir "+filepath.Dir(spec), "--define", "_buildhost fixture", "--define", "__os_install_post %{nil}", "--define", "_isa %{nil}", spec)
}

// generatedPackages makes n packages with all that a header may hold and
// rpmbuild would refuse: duplicates, bad epochs, MISSINGOK, Latin-1.
func generatedPackages(t *testing.T, dir string, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	for i := range n {
		p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{
			Name: fmt.Sprintf("gen-%d", i%(n*2/3+1)), Version: pick("1.0", "1.00", "2~rc1", "2^git5", "10"), Release: fmt.Sprint(i), Epoch: uint32(r.IntN(3)), Arch: pick("noarch", "x86_64", "core2_64"),
			OS: "linux", Summary: pick("", "plain", "gr\xf6\xdfer in Latin-1", "cp1252 \x93q\x94", "größer", "a & b < c > d \"e\" 'f'"), Description: pick("", "a\r\nb", "tab\tand\nline", "\u0085\u2028\u00a0", "]]>"),
			Licence: pick("MIT", ""), Vendor: pick("", "V & W"), URL: pick("", "https://example.org/?a&b"), Group: pick("", "Unspecified"), Packager: pick("", "P <p@example.org>"), BuildHost: pick("", "host"),
			Compressor: "gzip:1", BuildTime: time.Unix(1600000000+int64(i), 0),
		})
		if err != nil {
			t.Fatal(err)
		}
		names := []string{"gen-1", "gen-2", "libc.so.6", "libc.so.6()(64bit)", "libc.so.6(GLIBC_2.4)(64bit)", "libc.so.6(GLIBC_2.34)(64bit)", "libc.so.6(GLIBC_2.3.4)(64bit)", "libc.so.6(GLIBC_PRIVATE)(64bit)", "libc.so.6(GLIBC_2.4",
			"rpmlib(CompressedFileNames)", "/bin/sh", "/usr/bin/tool-1", "/usr/share/doc-1", "(a if b)", "config(x)", "ümlaut", "latin \xe4", "a<b>\"c\""}
		versions := []string{"", "", "1", "1-2", "0:1-2", "3:4-5", "bad:1", ":1", "1-", "-1", "1:2:3", "1-2-3", "~", "1.0~x^y"}
		senses := []uint32{0, rpm.SenseEqual, rpm.SenseLess, rpm.SenseGreater, rpm.SenseLess | rpm.SenseEqual, rpm.SenseGreater | rpm.SenseEqual, rpm.SenseLess | rpm.SenseGreater, 14}
		bits := []uint32{0, 0, 0, rpm.SensePrereq, rpm.SenseInterp, rpm.SenseScriptPre, rpm.SenseScriptPost, rpm.SenseScriptPreun, rpm.SenseScriptPostun, rpm.SenseMissingOK, rpm.SenseRpmlib, rpm.SensePretrans, rpm.SensePosttrans}
		for _, tags := range [][3]int{{1047, 1112, 1113}, {1049, 1048, 1050}, {1054, 1053, 1055}, {1090, 1114, 1115}, {5046, 5048, 5047}, {5049, 5051, 5050}, {5052, 5054, 5053}, {5055, 5057, 5056}} {
			var name, version []string
			var flags []uint32
			count := r.IntN(12)
			if tags[0] == 1049 {
				count *= 3
			}
			for range count {
				name, version = append(name, pick(names...)), append(version, pick(versions...))
				flags = append(flags, senses[r.IntN(len(senses))]|bits[r.IntN(len(bits))])
			}
			if count > 0 {
				p.AddCustomTag(tags[0], rpmpack.EntryStringSlice(name))
				p.AddCustomTag(tags[1], rpmpack.EntryUint32(flags))
				p.AddCustomTag(tags[2], rpmpack.EntryStringSlice(version))
			}
		}
		paths := []string{"/etc/gen", "/usr/bin/tool-1", "/usr/share/doc-1", "/usr/lib/sendmail", "/usr/lib/sendmail.d", "/opt/sbin/x", "/cabin/boy", "/usr/share/ä & <b>", "/usr/share/latin-\xe4", "/etc"}
		r.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
		for _, path := range paths[:r.IntN(len(paths))] {
			f := rpmpack.RPMFile{Name: path, Mode: 0o100644, Body: []byte("x"), Owner: "root", Group: "root", MTime: 1600000000}
			switch r.IntN(4) {
			case 0:
				f.Mode, f.Body = 0o40755, nil
			case 1:
				f.Type = rpmpack.GhostFile
			}
			p.AddFile(f)
		}
		if count := r.IntN(14); count > 0 {
			day, times, authors, texts := uint32(1700000000), []uint32{}, []string{}, []string{}
			for range count {
				if r.IntN(3) == 0 {
					day -= []uint32{1, 2, 86400}[r.IntN(3)]
				}
				times, authors, texts = append(times, day), append(authors, pick("A <a@example.org> - 1-1  ", "B")), append(texts, pick("- t", "- a\n- b & c", "- gr\xf6\xdfer"))
			}
			p.AddCustomTag(1080, rpmpack.EntryUint32(times))
			p.AddCustomTag(1081, rpmpack.EntryStringSlice(authors))
			p.AddCustomTag(1082, rpmpack.EntryStringSlice(texts))
		}
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("gen-%d.rpm", i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Write(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// readEntries reads every package below dir, hrefs relative to it.
func readEntries(t *testing.T, dir string) []Entry {
	t.Helper()
	var entries []Entry
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".rpm") {
			return err
		}
		p, err := rpm.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		href, err := filepath.Rel(dir, path)
		entries = append(entries, Entry{Package: p, Href: href, FileTime: info.ModTime().Unix()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 {
		t.Fatal("no packages to compare")
	}
	slices.Reverse(entries)
	return entries
}

// writeRepodata stores md under dir.
func writeRepodata(t *testing.T, dir string, md *Repodata) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "repodata"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range filesOf(md) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
