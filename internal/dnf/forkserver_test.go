package dnf_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/dnf"
	"slipway/internal/dnf/dnftest"
	"slipway/internal/errs"
)

const slow = `Name: slow
Version: 1
Release: 1
BuildArch: noarch
%files
%post -p <lua>
local f = io.open("/started", "w") f:close()
while not posix.access("/go-on") do posix.sleep(1) end
`

// What dnf says and does is the same whether it is started by itself or in a copy
// of a process that has read its modules; that process may end at any time.
func TestForkserver(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dnftest.Need(t)
	key := dnftest.NewKey(t, "feed")
	b, g1, g2, s := dnftest.Build(t, base), dnftest.Build(t, greet(1)), dnftest.Build(t, greet(2)), dnftest.Build(t, slow)
	key.Sign(t, b[0], g1[0], g2[0], s[0])
	repo, _ := key.Feed(t, b[0], g1[0], g2[0], s[0])

	said := func(plain bool) (all []string) {
		tool := dnftest.Find(t)
		if plain {
			tool = tool.WithoutForkserver()
		}
		root := newRoot(t, tool, repo)
		if err := root.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		clone, err := root.Clone(ctx, filepath.Join(t.TempDir(), "clone"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = clone.Remove() })
		note := func(res dnf.Result, err error) {
			all = append(all, res.Output, names(res.Installed), names(res.Upgraded), names(res.Now), fmt.Sprint(err != nil, errs.KindOf(err)))
		}
		note(clone.Install(ctx, "greet-1-1.noarch"))
		note(clone.Upgrade(ctx))
		note(clone.Install(ctx, "nothing-of-that-name"))
		lines, err := clone.Repoquery(ctx, "--qf", "%{name} %{version}")
		all = append(all, strings.Join(lines, "; "), fmt.Sprint(err))
		if pid := tool.Forkserver(); plain != (pid == 0) {
			t.Errorf("plain is %v, and the process that starts dnf is %d", plain, pid)
		}
		return all
	}
	if diff := cmp.Diff(said(true), said(false)); diff != "" {
		t.Errorf("dnf started by itself, and in a copy:\n%s", diff)
	}

	tool := dnftest.Find(t).WithForkserver()
	root := newRoot(t, tool, repo)
	if err := root.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	hang := func(name string) (*dnf.Root, context.CancelCauseFunc, chan error) {
		r, err := root.Clone(ctx, filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Remove() })
		short, cancel := context.WithCancelCause(ctx)
		ended := make(chan error, 1)
		go func() { _, err := r.Install(short, "slow"); ended <- err }()
		for n := 0; ; n++ {
			if _, err := os.Stat(filepath.Join(r.Path(), "started")); err == nil {
				return r, cancel, ended
			}
			if n == 600 {
				t.Fatal("the package's scriptlet does not start")
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	_, cancel, ended := hang("cancelled")
	why := errs.E(errs.Interrupted, "enough")
	cancel(why)
	if err := <-ended; !errs.Is(err, errs.Interrupted) {
		t.Errorf("cancelled: %v", err)
	}
	_, cancel, ended = hang("killed")
	defer cancel(nil)
	if err := syscall.Kill(tool.Forkserver(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errs.Is(err, errs.Failed) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process that starts dnf was killed in the middle: %v", err)
	}
	after, err := root.Clone(ctx, filepath.Join(t.TempDir(), "after"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = after.Remove() }()
	if res, err := after.Install(ctx, "greet"); err != nil || names(res.Now) != "base-1-1.noarch greet-2-1.noarch" {
		t.Errorf("after it was killed: %s: %v", names(res.Now), err)
	}
}

// A clone reads what its origin has verified, and nothing that came later.
func TestCloneReadsVerifiedMetadata(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dnftest.Need(t)
	tool, key, foreign := dnftest.Find(t), dnftest.NewKey(t, "feed"), dnftest.NewKey(t, "foreign")
	b, g1, g2 := dnftest.Build(t, base), dnftest.Build(t, greet(1)), dnftest.Build(t, greet(2))
	key.Sign(t, b[0], g1[0])
	repo, _ := key.Feed(t, b[0], g1[0])
	root := newRoot(t, tool, repo)
	if err := root.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	foreign.Sign(t, g2[0])
	other, _ := foreign.Feed(t, b[0], g1[0], g2[0])
	if err := os.RemoveAll(dnftest.Dir(repo)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dnftest.Dir(other), dnftest.Dir(repo)); err != nil {
		t.Fatal(err)
	}
	clone, err := root.Clone(ctx, filepath.Join(t.TempDir(), "clone"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = clone.Remove() }()
	if res, err := clone.Install(ctx, "greet"); err != nil || names(res.Now) != "base-1-1.noarch greet-1-1.noarch" {
		t.Errorf("a clone reads what a foreign key has signed: %s: %v", names(res.Now), err)
	}
	if err := clone.SetVars(map[string]string{"releasever": "0"}); err != nil {
		t.Fatal(err)
	}
	if _, err := clone.Install(ctx, "greet"); !errs.Is(err, errs.Denied) {
		t.Errorf("after a change of variables the metadata is asked for again, and must be refused: %v", err)
	}
}
