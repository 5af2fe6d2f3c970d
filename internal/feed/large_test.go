package feed

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/dnf/dnftest"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
)

// A package is signed, stored and verified in memory that does not grow with its
// payload. SLIPWAY_TEST=full has a gigabyte of it. Not beside other tests: the heap
// is everybody's.
func TestLargePayload(t *testing.T) {
	dnftest.Need(t)
	mib := int64(96)
	if os.Getenv("SLIPWAY_TEST") == "full" {
		mib = 1024
	}
	file := dnftest.Build(t, fmt.Sprintf("Name: large\nVersion: 1\nRelease: 1\nBuildArch: noarch\n%%global _binary_payload w.ufdio\n%%install\nmkdir -p %%{buildroot}/usr/share\ntruncate -s %dM %%{buildroot}/usr/share/large\n%%files\n/usr/share/large\n", mib))[0]
	p, err := rpm.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if p.Size < mib<<20 {
		t.Fatalf("the package has %d bytes: its payload is compressed", p.Size)
	}
	b := &bed{t: t, dir: t.TempDir()}
	if b.tree, err = store.OpenTree(b.dir); err != nil {
		t.Fatal(err)
	}
	if b.key, err = sign.Generate(sign.Options{Name: "Test", Created: testStart}); err != nil {
		t.Fatal(err)
	}
	b.p = b.publisher(b.tree)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	record := rec("noarch", "large", "1-1")
	record.SourceName, record.HeaderDigest, record.Digest, record.Size = "large", p.HeaderDigest, p.Digest, p.Size
	grown := heapOf(func() {
		if record, err = b.p.AddPackage(t.Context(), record, f, p.Size, testStart); err != nil {
			t.Fatal(err)
		}
		b.publish(1, []distro.PackageRecord{record})
		report, err := b.verify()
		if err != nil || report.Packages != 1 {
			t.Errorf("%+v, %v", report, err)
		}
	})
	if grown > 48<<20 {
		t.Errorf("the heap grows by %d MiB over a payload of %d MiB", grown>>20, mib)
	}
	t.Logf("payload %d MiB, heap +%d KiB", mib, grown>>10)
}

// heapOf gives by how many bytes the heap grew at most while do ran.
func heapOf(do func()) int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := int64(m.HeapInuse), int64(m.HeapInuse)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, int64(m.HeapInuse))
			}
		}
	}()
	do()
	close(stop)
	<-stopped
	return most - before
}
