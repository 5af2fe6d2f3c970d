package feed

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/rpmpack"

	"slipway/internal/distro"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
)

var benchStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// BenchmarkPublish publishes one new package into a series that has so many
// already: sign, pool, snapshot, history, current and the pointers, each time by
// a Publisher that has read nothing yet, as a new process. The growth from one
// size to the next is what the packages cost that are there already.
func BenchmarkPublish(b *testing.B) {
	for _, there := range []int{200, 1000} {
		b.Run(fmt.Sprint(there), func(b *testing.B) {
			tree, err := store.OpenTree(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			key, err := sign.Generate(sign.Options{Name: "Bench", Created: benchStart})
			if err != nil {
				b.Fatal(err)
			}
			var base []distro.PackageRecord
			first := benchPublisher(tree, key)
			for i := range there {
				base = append(base, benchAdd(b, first, benchPackage(b, i)))
			}
			benchRelease(b, first, 1, base)
			serial := 1
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				serial++
				fresh := benchPackage(b, there+serial)
				b.StartTimer()
				p := benchPublisher(tree, key)
				record := benchAdd(b, p, fresh)
				benchRelease(b, p, serial, Union(base, []distro.PackageRecord{record}))
			}
		})
	}
}

func benchPublisher(tree store.Tree, key *sign.Key) *Publisher {
	return &Publisher{Tree: tree, Layout: Layout{Series: "1"}, Distribution: "bench", Title: "Bench", Package: key, Metadata: key, Scopes: []string{"noarch"}}
}

func benchRelease(b *testing.B, p *Publisher, serial int, all []distro.PackageRecord) {
	b.Helper()
	e := Edition{Serial: serial, Release: distro.NewVersion("1", serial), At: benchStart.Add(time.Duration(serial) * time.Hour), Index: Newest(all), History: all}
	if err := p.WriteKeys(b.Context()); err != nil {
		b.Fatal(err)
	}
	s, err := p.WriteSnapshot(b.Context(), e)
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Switch(b.Context(), e, s); err != nil {
		b.Fatal(err)
	}
}

func benchAdd(b *testing.B, p *Publisher, file []byte) distro.PackageRecord {
	b.Helper()
	pkg, err := rpm.Read(bytes.NewReader(file), int64(len(file)), "bench")
	if err != nil {
		b.Fatal(err)
	}
	r := distro.PackageRecord{Name: pkg.Name, Version: pkg.Version, Release: pkg.Release, Arch: pkg.Arch, Scope: pkg.Arch, SourceName: pkg.Name,
		File: fmt.Sprintf("%s-%s-%s.%s.rpm", pkg.Name, pkg.Version, pkg.Release, pkg.Arch), HeaderDigest: pkg.HeaderDigest}
	r, err = p.AddPackage(b.Context(), r, bytes.NewReader(file), int64(len(file)), benchStart)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// benchPackage gives package i: 16 files, 20 dependencies.
func benchPackage(b *testing.B, i int) []byte {
	b.Helper()
	name := fmt.Sprintf("package-%05d", i)
	p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: name, Version: "1", Release: "1", Arch: "noarch", Summary: "A package", Licence: "MIT",
		BuildHost: "bench", Compressor: "zstd:1", BuildTime: benchStart})
	if err != nil {
		b.Fatal(err)
	}
	for j := range 16 {
		p.AddFile(rpmpack.RPMFile{Name: fmt.Sprintf("/usr/share/%s/file-%02d", name, j), Mode: 0o100644, Body: bytes.Repeat([]byte{byte(i), byte(j)}, 512), Owner: "root", Group: "root"})
	}
	for j := range 20 {
		if err := p.Requires.Set(fmt.Sprintf("package-%05d >= 1.%d", i*j%997, j)); err != nil {
			b.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}
