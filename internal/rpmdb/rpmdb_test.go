package rpmdb_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/rpmpack"

	"slipway/internal/errs"
	"slipway/internal/rpmdb"
)

func rpm(t testing.TB, db string, args ...string) string {
	t.Helper()
	cmd := exec.Command("rpm", append([]string{"--define", "_dbpath " + db, "--define", "_db_backend sqlite"}, args...)...)
	if os.Getuid() != 0 {
		cmd = exec.Command("unshare", append([]string{"-r"}, cmd.Args...)...)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("rpm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// database makes one by rpm itself: packages of few and of very many files, so that
// rows fill several pages.
func database(t testing.TB, packages int) string {
	t.Helper()
	dir, db := t.TempDir(), t.TempDir()
	args := []string{"-i", "--justdb", "--nodeps", "--noscripts", "--ignorearch", "--ignoreos", "--nosignature"}
	for i := range packages {
		p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: fmt.Sprintf("pack-%03d", i), Version: "1.0", Release: fmt.Sprint(i), Arch: "noarch", Epoch: uint32(i % 2)})
		if err != nil {
			t.Fatal(err)
		}
		for n := range i * i / 2 {
			p.AddFile(rpmpack.RPMFile{Name: fmt.Sprintf("/usr/share/pack-%03d/a-file-number-%04d", i, n), Body: []byte("x"), Mode: 0o100644, Owner: "root", Group: "root"})
		}
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprint(i)+".rpm")
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	rpm(t, db, args...)
	return db
}

func read(t testing.TB, dir string) (file, wal []byte) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(dir, rpmdb.File))
	if err != nil {
		t.Fatal(err)
	}
	wal, _ = os.ReadFile(filepath.Join(dir, rpmdb.WAL)) // rpm may have taken it away
	return file, wal
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := database(t, 40)
	db, err := rpmdb.Read(read(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range db.Packages {
		got = append(got, fmt.Sprintf("%s %s %d", p.NEVRA(), strings.TrimPrefix(string(p.HeaderDigest), "sha256:"), len(p.Files)))
	}
	want := strings.Split(strings.TrimSpace(rpm(t, dir, "-qa", "--qf", "%{NAME}-%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}.%{ARCH} %{SHA256HEADER} x[%{FILENAMES}]\n")), "\n")
	for i, w := range want {
		f := strings.SplitN(w, " ", 3)
		want[i] = fmt.Sprintf("%s %s %d", f[0], f[1], strings.Count(f[2], "/a-file-number-"))
	}
	slices.Sort(want)
	for i := range got {
		got[i] = strings.Replace(got[i], "-0:", "-", 1)
	}
	for i := range want {
		want[i] = strings.Replace(want[i], "-0:", "-", 1)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("read\n%s\nrpm says\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	file, wal := read(t, database(t, 8))
	for name, b := range map[string][]byte{"empty": nil, "short": file[:50], "text": []byte(strings.Repeat("hello", 100)), "truncated": file[:len(file)/2], "pages of 3 bytes": append(append(append([]byte{}, file[:16]...), 0, 3), file[18:]...)} {
		if _, err := rpmdb.Read(b, nil); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := rpmdb.Read(file, bytes.Repeat([]byte("x"), 5000)); !errs.Is(err, errs.Invalid) {
		t.Errorf("log: %v", err)
	}
	if db, err := rpmdb.Read(file, wal); err != nil || len(db.Packages) != 8 {
		t.Error(db, err)
	}
}

func FuzzRead(f *testing.F) {
	file, wal := read(f, database(f, 4))
	f.Add([]byte{})
	f.Add([]byte{0, 16, 2, 0, 100, 5})
	f.Fuzz(func(t *testing.T, patches []byte) {
		b, w := bytes.Clone(file), bytes.Clone(wal)
		for ; len(patches) >= 3; patches = patches[3:] {
			at := int(patches[0])<<8 | int(patches[1])
			b[at*37%len(b)] = patches[2]
			if len(w) > 0 {
				w[at%len(w)] = patches[2]
			}
		}
		if _, err := rpmdb.Read(b, w); err != nil && !errs.Is(err, errs.Invalid) {
			t.Error(err)
		}
	})
}
