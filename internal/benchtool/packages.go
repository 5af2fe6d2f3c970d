package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/rpmpack"
)

// made says what makePackages makes, for the pages.
const made = "16 files and 64 KiB of incompressible content, 20 dependencies and 5 changelog entries each"

// makePackages writes n packages into dir, which it makes: the same bytes every
// time, unsigned, as a build leaves them.
func makePackages(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return makeRange(dir, 0, n, 4096)
}

// makeSmall writes the packages from, ... to-1 with 1 KiB of content each: for
// tens of thousands of them, when headers count.
func makeSmall(dir string, from, to int) error { return makeRange(dir, from, to, 64) }

func makeRange(dir string, from, to, body int) error {
	workers := runtime.GOMAXPROCS(0)
	done := make(chan error, workers)
	for w := range workers {
		go func() {
			for i := from + w; i < to; i += workers {
				if err := makePackage(dir, i, version, body); err != nil {
					done <- fmt.Errorf("make package %d: %w", i, err)
					return
				}
			}
			done <- nil
		}()
	}
	var err error
	for range workers {
		err = cmp.Or(err, <-done)
	}
	return err
}

func makePackage(dir string, i int, version string, body int) error {
	name := fmt.Sprintf("package-%06d", i)
	random := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{
		Name: name, Version: version, Release: release, Arch: arch, Summary: "Package number " + fmt.Sprint(i),
		Description: "A package that is there to be measured. It holds text & bytes, as others do,\nover more than one line.",
		Licence:     "MIT", Vendor: "Halyard", URL: "https://example.org/" + name, Group: "Unspecified", BuildHost: "bench",
		Compressor: "zstd:1", BuildTime: time.Unix(1_700_000_000+int64(i), 0),
	})
	if err != nil {
		return err
	}
	for j := range 16 {
		content := make([]byte, body)
		_, _ = random.Read(content) // never fails
		path := fmt.Sprintf("/usr/share/%s/part-%d/file-%02d.dat", name, j%3, j)
		if j == 0 {
			path = "/usr/bin/" + name
		}
		p.AddFile(rpmpack.RPMFile{Name: path, Mode: 0o100644, Body: content, Owner: "root", Group: "root", MTime: 1_600_000_000})
	}
	for j := range 20 {
		requires := fmt.Sprintf("lib%d.so.%d()(64bit)", (i*7+j*31)%700, j%4)
		if j%4 == 0 {
			requires = fmt.Sprintf("package-%06d >= 1.%d", (i*13+j)%5000, j)
		}
		if err := p.Requires.Set(requires); err != nil {
			return err
		}
	}
	var times []uint32
	var authors, texts []string
	for j := range 5 {
		times = append(times, uint32(1_690_000_000-86_400*j))
		authors = append(authors, fmt.Sprintf("A Person <a@example.org> - %s-%d", version, 5-j))
		texts = append(texts, fmt.Sprintf("- change %d of package %d\n- and what follows from it", j, i))
	}
	// The tags of the changelog, rpmtag.h.
	p.AddCustomTag(1080, rpmpack.EntryUint32(times))
	p.AddCustomTag(1081, rpmpack.EntryStringSlice(authors))
	p.AddCustomTag(1082, rpmpack.EntryStringSlice(texts))

	f, err := os.Create(filepath.Join(dir, fileName(i, version)))
	if err != nil {
		return err
	}
	if err := p.Write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

const version, release, arch = "1.2.3", "4", "x86_64"

// packageName is the file name of package i.
func packageName(i int) string { return fileName(i, version) }

func fileName(i int, version string) string {
	return fmt.Sprintf("package-%06d-%s-%s.%s.rpm", i, version, release, arch)
}

// packagesOf gives the packages of a folder, sorted.
func packagesOf(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.rpm"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no packages in %s", dir)
	}
	return files, err
}
