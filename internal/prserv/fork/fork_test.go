package fork

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv"
	"slipway/internal/prserv"
)

func h(n int) string { return fmt.Sprintf("%064x", n) }

func open(t *testing.T, path string) *Base {
	t.Helper()
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func invoke(t *testing.T, address, protocol, version, command string, request, answer any) {
	t.Helper()
	c, err := asyncrpc.Dial(t.Context(), address, protocol, version)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Invoke(t.Context(), command, request, answer); err != nil {
		t.Fatal(err)
	}
}

func pr(t *testing.T, x *Build, version, checksum string) string {
	t.Helper()
	var a struct{ Value string }
	invoke(t, x.PRServer, prserv.Protocol, prserv.Version, "get-pr", map[string]any{"version": version, "pkgarch": "core2-64", "checksum": checksum, "history": false}, &a)
	return a.Value
}

func report(t *testing.T, x *Build, task, out int) string {
	t.Helper()
	var a struct{ Unihash string }
	invoke(t, x.HashServer, hashserv.Protocol, "1.1", "report", map[string]any{"method": "m", "taskhash": h(task), "outhash": h(out), "unihash": h(task)}, &a)
	return a.Unihash
}

func TestForkPromoteDrop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, filepath.Join(dir, "series.db"))
	build := func(name string) *Build {
		x, err := b.Fork(t.Context(), filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	one := build("one")
	if got := pr(t, one, "busybox-1.36-r0", "aaa"); got != "0" {
		t.Fatal(got)
	}
	if got := report(t, one, 1, 101); got != h(1) {
		t.Fatal(got)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Promote(t.Context(), filepath.Join(dir, "one")); err != nil || n != (Promoted{2, 1}) {
		t.Fatal(n, err)
	}

	// Two builds side by side: both see the base, no number is given twice.
	two, three := build("two"), build("three")
	if pr(t, two, "busybox-1.36-r0", "aaa") != "0" || pr(t, three, "busybox-1.36-r0", "aaa") != "0" {
		t.Fatal("the base's number is not kept")
	}
	if got := report(t, two, 2, 101); got != h(1) {
		t.Fatalf("output of the base: %s", got)
	}
	if got := report(t, three, 1, 999); got != h(1) {
		t.Fatalf("task of the base: %s", got)
	}
	if got := [2]string{pr(t, two, "busybox-1.36-r0", "bbb"), pr(t, three, "busybox-1.36-r0", "ccc")}; got != [2]string{"1", "2"} {
		t.Fatal(got)
	}
	var row any
	invoke(t, three.HashServer, hashserv.Protocol, "1.1", "get", map[string]any{"method": "m", "taskhash": h(2)}, &row)
	if row != nil {
		t.Error("a build sees another's overlay:", row)
	}
	two.Close()
	if err := b.Drop(filepath.Join(dir, "two")); err != nil {
		t.Fatal(err)
	}
	three.Close()
	three = build("three") // as after a crash
	if got := pr(t, three, "busybox-1.36-r0", "ccc"); got != "2" {
		t.Fatal("resumed:", got)
	}
	if got := pr(t, three, "busybox-1.36-r0", "ddd"); got != "3" {
		t.Fatal("the dropped build's number was given again:", got)
	}
	three.Close()
	if _, err := b.Promote(t.Context(), filepath.Join(dir, "three")); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(dir, "saved.db")
	if err := b.Save(saved); err != nil {
		t.Fatal(err)
	}
	again := open(t, saved)
	if v, err := again.PR.Max(t.Context(), "busybox-1.36-r0", "core2-64"); err != nil || v != "3" {
		t.Fatal(v, err)
	}
	if u, err := again.Hash.Unihash(t.Context(), "m", h(1)); err != nil || u != h(1) {
		t.Fatal(u, err)
	}
	if u, _ := again.Hash.Unihash(t.Context(), "m", h(2)); u != "" {
		t.Error("a dropped row came back")
	}
}

func TestManyBuildsNeverShareANumber(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, filepath.Join(dir, "series.db"))
	var mu sync.Mutex
	given := map[string]string{}
	var wg sync.WaitGroup
	for i := range 4 {
		x, err := b.Fork(t.Context(), filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		wg.Go(func() {
			c, err := asyncrpc.Dial(context.Background(), x.PRServer, prserv.Protocol, prserv.Version)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for n := range 15 {
				var a struct{ Value string }
				ck := fmt.Sprintf("%d-%d", i, n)
				if err := c.Invoke(context.Background(), "get-pr", map[string]any{"version": "v", "pkgarch": "p", "checksum": ck, "history": false}, &a); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if who := given[a.Value]; who != "" {
					t.Errorf("%s was given to %s and %s", a.Value, who, ck)
				}
				given[a.Value] = ck
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestRecord is a builder of our own, beside one that is BitBake's client.
func TestRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, filepath.Join(dir, "series.db"))
	at := time.Unix(1_000_000, 0)
	reserve := func(want, floor int) {
		t.Helper()
		if n, err := b.PR.Reserve(t.Context(), PRVersion("busybox", "1.36"), "core2-64", floor); err != nil || n != want {
			t.Fatal(n, err)
		}
	}
	reserve(1, 0)
	reserve(2, 0)
	reserve(8, 7) // a base release that this database does not know
	reserve(9, 7)
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	for range 2 { // the second as after a crash
		if err := b.Record(t.Context(), one, at, []Output{{"busybox", "1.36", "core2-64", 9, h(1), h(100)}, {"tie", "1", "noarch", 1, "", h(200)}}); err != nil {
			t.Fatal(err)
		}
	}
	saved := filepath.Join(dir, "saved.db")
	if err := b.SaveWith(t.Context(), one, saved); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Promote(t.Context(), one); err != nil || n != (Promoted{2, 2}) { // a task and its output; two numbers
		t.Fatal(n, err)
	}
	for name, path := range map[string]string{"base": "", "saved": saved} {
		d := b
		if path != "" {
			d = open(t, path)
		}
		if v, err := d.PR.Find(t.Context(), "busybox-1.36", "core2-64", h(100), false); err != nil || v != "9" {
			t.Error(name, v, err)
		}
		if u, err := d.Hash.Unihash(t.Context(), Method, h(1)); err != nil || u != h(1) {
			t.Error(name, u, err)
		}
	}
	// What is known is not recorded again; new inputs with a known output take its name.
	if err := b.Record(t.Context(), two, at, []Output{{"busybox", "1.36", "core2-64", 9, h(1), h(100)}, {"busybox", "1.36", "core2-64", 9, h(2), h(100)}}); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Promote(t.Context(), two); err != nil || n != (Promoted{2, 0}) {
		t.Fatal(n, err)
	}
	if u, err := b.Hash.Unihash(t.Context(), Method, h(2)); err != nil || u != h(1) {
		t.Error(u, err)
	}
	// BitBake's client goes on above the same numbers.
	x, err := b.Fork(t.Context(), filepath.Join(dir, "bitbake"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if got := pr(t, x, "busybox-1.36", "other"); got != "10" {
		t.Error(got)
	}
}
