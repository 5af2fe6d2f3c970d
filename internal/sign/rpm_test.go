package sign

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/errs"
	"slipway/internal/rpm"
)

const spec = `
Name: small
Version: 1
Release: 1
Summary: A small package
License: MIT
BuildArch: noarch
%description
Small.
%install
mkdir -p %{buildroot}/usr/share/small
echo hello > %{buildroot}/usr/share/small/hello
%files
/usr/share/small
`

// buildSmall gives the path of a package that rpmbuild made.
func buildSmall(t testing.TB) string {
	t.Helper()
	tool(t, "rpmbuild", "rpm")
	top := t.TempDir()
	f := writeFile(t, filepath.Join(top, "small.spec"), []byte(spec))
	if out, err := exec.CommandContext(t.Context(), "rpmbuild", "-bb", "--define", "_topdir "+top, "--define", "_dbpath "+top+"/db", f).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(top, "RPMS/noarch/small-1-1.noarch.rpm")
}

// resign is how a publisher joins the two packages.
func resign(t testing.TB, s Signer, pkg []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	err := rpm.Resign(&out, bytes.NewReader(pkg), int64(len(pkg)), func(header []byte) ([]byte, int, error) {
		sig, err := s.Sign(t.Context(), bytes.NewReader(header), at)
		return sig, s.RPMTag(), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(t testing.TB, b []byte) *rpm.Package {
	t.Helper()
	p, err := rpm.Read(bytes.NewReader(b), int64(len(b)), "test")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRPMAcceptsResignedPackages(t *testing.T) {
	t.Parallel()
	tool(t, "rpmkeys", "rpm")
	unsigned, err := os.ReadFile(buildSmall(t))
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, key := range keys {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			k, dir := key(), t.TempDir()
			db := filepath.Join(dir, "db")
			if out, err := exec.CommandContext(t.Context(), "rpmkeys", "--dbpath", db, "--import", writeFile(t, filepath.Join(dir, "key.asc"), k.PublicArmored())).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			check := func(name string, b []byte) (string, bool) {
				f := writeFile(t, filepath.Join(dir, name), b)
				out, err := exec.CommandContext(t.Context(), "rpmkeys", "--dbpath", db, "--define", "_pkgverify_level all", "-Kv", f).CombinedOutput()
				return string(out), err == nil
			}

			signed := resign(t, k, unsigned)
			if out, ok := check("signed.rpm", signed); !ok || !strings.Contains(out, "Signature, key ID "+k.KeyID()[8:]+": OK") {
				t.Errorf("rpm -K: %s", out)
			}
			if again := resign(t, k, unsigned); !bytes.Equal(signed, again) {
				t.Error("the same package was signed to other bytes")
			}
			if again := resign(t, k, resign(t, keys[Ed25519](), signed)); !bytes.Equal(signed, again) {
				t.Error("signing a signed package leaves traces of the old signature")
			}
			before, after := read(t, unsigned), read(t, signed)
			if before.HeaderDigest != after.HeaderDigest || !bytes.Equal(unsigned[before.HeaderStart:], signed[after.HeaderStart:]) {
				t.Error("header or payload changed")
			}
			if len(after.Signatures) != 1 || after.Signatures[0].Tag != k.RPMTag() {
				t.Fatalf("signatures %v", after.Signatures)
			}
			header := signed[after.HeaderStart:after.HeaderEnd]
			if _, err := Verify([]*Public{public(t, k)}, bytes.NewReader(header), after.Signatures[0].Data); err != nil {
				t.Error(err)
			}

			if out, ok := check("unsigned.rpm", unsigned); ok {
				t.Errorf("rpm accepts the unsigned package: the test proves nothing\n%s", out)
			}
			if out, ok := check("other.rpm", resign(t, generate(Options{Algorithm: Ed25519}), unsigned)); ok {
				t.Errorf("rpm accepts another key: %s", out)
			}
			for where, offset := range map[string]int64{"header": after.HeaderStart + 500, "payload": after.HeaderEnd + 20, "signature": 96 + 16 + 5*16 + 60} {
				bad := bytes.Clone(signed)
				bad[offset] ^= 1
				if out, ok := check("tampered-"+where+".rpm", bad); ok {
					t.Errorf("rpm accepts a tampered %s: %s", where, out)
				}
				if err := rpm.Verify(bytes.NewReader(bad), int64(len(bad)), where); where != "signature" && err == nil {
					t.Errorf("rpm.Verify accepts a tampered %s", where)
				}
			}
		})
	}
}

func TestTamperedPackageIsNeverSigned(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(buildSmall(t))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-10] ^= 1
	err = rpm.Resign(new(bytes.Buffer), bytes.NewReader(b), int64(len(b)), func([]byte) ([]byte, int, error) {
		t.Error("asked for a signature")
		return nil, 0, nil
	})
	if !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "small-1-1.noarch was changed after it was built: the payload's digest is ") {
		t.Error(err)
	}
}

// BenchmarkSign1000 signs the headers of 1000 small packages.
func BenchmarkSign1000(b *testing.B) {
	pkg, err := os.ReadFile(buildSmall(b))
	if err != nil {
		b.Fatal(err)
	}
	p := read(b, pkg)
	header := bytes.Clone(pkg[p.HeaderStart:p.HeaderEnd])
	for algorithm, key := range keys {
		k := key()
		b.Run(algorithm, func(b *testing.B) {
			for b.Loop() {
				for i := range 1000 {
					copy(header[len(header)-50:], fmt.Sprintf("%08d", i))
					if _, err := k.Sign(b.Context(), bytes.NewReader(header), at); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
