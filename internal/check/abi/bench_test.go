package abi_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/rpmpack"

	"slipway/internal/check"
	"slipway/internal/check/abi"
	"slipway/internal/distro"
	"slipway/internal/rpm"
)

// spent gives the processor time of this process and of its children.
func spent() time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			panic(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// BenchmarkLibraries compares 200 libraries, each changed and with debug information,
// with those of the last release, beside abipkgdiff on as many pairs of packages as
// BENCH_GATE says (one more compiler run for each: it is asked for by name).
func BenchmarkLibraries(b *testing.B) {
	if os.Getenv("BENCH_GATE") == "" {
		b.Skip("SKIPPED: BENCH_GATE=20 asks for it (scripts/bench.d/71-gate)")
	}
	const libraries = 200
	peers := 0
	if _, err := fmt.Sscan(os.Getenv("BENCH_GATE"), &peers); err != nil {
		b.Fatal(err)
	}
	s := &shop{files: map[distro.Digest]string{}}
	dir := b.TempDir()
	var sides [2][]distro.PackageRecord
	var paths [2][]string
	for v := range sides {
		var source strings.Builder
		fmt.Fprintf(&source, "struct knot { int turns; char name[8]; struct knot *next; };\n")
		for f := range 100 {
			fmt.Fprintf(&source, "int knot_%d(struct knot *k, int n) { return k->turns + n + %d; }\n", f, f+v)
		}
		for i := range libraries {
			lib := filepath.Join(dir, fmt.Sprintf("libk%d.so.1", i))
			c := filepath.Join(dir, "k.c")
			if err := os.WriteFile(c, []byte(source.String()), 0o644); err != nil {
				b.Fatal(err)
			}
			if msg, err := exec.Command("gcc", "-g", "-shared", "-fPIC", fmt.Sprintf("-Wl,-soname,libk%d.so.1", i), "-o", lib, c).CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, msg)
			}
			data, err := os.ReadFile(lib)
			if err != nil {
				b.Fatal(err)
			}
			p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: fmt.Sprintf("libk%d", i), Version: fmt.Sprint(v + 1), Release: "1", Arch: "x86_64", Compressor: "zstd"})
			if err != nil {
				b.Fatal(err)
			}
			p.AddFile(rpmpack.RPMFile{Name: fmt.Sprintf("/usr/lib/libk%d.so.1", i), Body: data, Mode: 0o100755, Owner: "root", Group: "root"})
			path := filepath.Join(dir, fmt.Sprintf("libk%d-%d.rpm", i, v))
			w, err := os.Create(path)
			if err != nil {
				b.Fatal(err)
			}
			if err := p.Write(w); err != nil {
				b.Fatal(err)
			}
			w.Close()
			h, err := rpm.ReadFile(path)
			if err != nil {
				b.Fatal(err)
			}
			s.files[h.HeaderDigest] = path
			paths[v] = append(paths[v], path)
			sides[v] = append(sides[v], distro.PackageRecord{Name: h.Name, Version: h.Version, Release: h.Release, Arch: h.Arch, SourceName: h.Name, HeaderDigest: h.HeaderDigest, Content: h.ContentDigest()})
		}
	}
	for b.Loop() {
		before := spent()
		bed := &check.Bed{Dir: b.TempDir(), Jobs: 2, Base: sides[0], History: sides[0], Packages: slices.Clone(sides[1]), Read: s.read, Open: s.open}
		out, err := check.Run(b.Context(), bed, []check.Check{abi.New()}, nil)
		if err != nil || out[0].Result.Error != "" || out[0].Result.Asked != libraries || len(out[0].Result.Findings) != 0 || len(out[0].Files) != libraries {
			b.Fatalf("%v %s %d %d", err, out[0].Result.Error, out[0].Result.Asked, len(out[0].Result.Findings))
		}
		ours := spent() - before
		before = spent()
		for i := range peers {
			if msg, err := exec.Command("abipkgdiff", paths[0][i], paths[1][i]).CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, msg)
			}
		}
		theirs := spent() - before
		b.ReportMetric(ours.Seconds(), "cpu-s/200-libraries")
		b.ReportMetric(theirs.Seconds()/float64(max(1, peers))*libraries, "cpu-s/200-by-abipkgdiff")
	}
}
