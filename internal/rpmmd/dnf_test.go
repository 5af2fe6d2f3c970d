package rpmmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDnfAnswersTheSame asks a real dnf the same questions over createrepo_c's
// metadata and over ours, zstd and gzip.
func TestDnfAnswersTheSame(t *testing.T) {
	t.Parallel()
	dnf := tool(t, "dnf", "dnf")
	theirs, zst, gz := t.TempDir(), t.TempDir(), t.TempDir()
	realPackages(t, theirs)
	generatedPackages(t, theirs, 60)
	createrepo(t, "createrepo_c", theirs, "gz")
	entries := readEntries(t, theirs)
	oldPre(t, "createrepo_c", entries)
	for dir, compression := range map[string]Compression{zst: Zstd, gz: Gzip} {
		opts := options
		opts.Compression = compression
		md, err := Build(entries, opts)
		if err != nil {
			t.Fatal(err)
		}
		writeRepodata(t, dir, md)
	}
	fields := "name,epoch,version,release,arch,summary,description,license,vendor,group,packager,url,sourcerpm,buildtime,downloadsize,installsize,location," +
		"provides,requires,conflicts,obsoletes,suggests,enhances,recommends,supplements,files"
	for i, query := range [][]string{
		{"--available", "--queryformat", "%{" + strings.ReplaceAll(fields, ",", "}|%{") + "}"},
		{"--changelogs"},
		{"--list", "fixture", "gen-1"},
		{"--whatprovides", "libc.so.6(GLIBC_2.4)(64bit)"},
		{"--whatrequires", "/bin/sh"},
		{"--whatrequires", "fixture-extra"},
		{"--requires", "--resolve", "fixture"},
		{"--file", "/etc/fixture/state"},
		{"--latest-limit=1"},
		{"--duplicates"},
		{"--unsatisfied"},
	} {
		t.Run(fmt.Sprintf("%d %s", i, strings.Trim(query[0], "-")), func(t *testing.T) {
			t.Parallel()
			want := repoquery(t, dnf, theirs, query)
			if want == "" && query[0] != "--unsatisfied" && query[0] != "--duplicates" {
				t.Errorf("dnf has no answer over createrepo_c's metadata: the question is useless")
			}
			for _, dir := range []string{zst, gz} {
				if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(repoquery(t, dnf, dir, query), "\n")); diff != "" {
					t.Errorf("dnf says (- createrepo_c, + ours):\n%s", diff)
				}
			}
		})
	}
}

func repoquery(t *testing.T, dnf, dir string, query []string) string {
	t.Helper()
	return asks(t, dnf, dir, append([]string{"repoquery"}, query...)...)
}

// asks runs dnf with nothing of this machine: own HOME, cache, logs, no
// repositories but the one below dir.
func asks(t *testing.T, dnf, dir string, query ...string) string {
	t.Helper()
	return asksAt(t, dnf, t.TempDir(), dir, query...)
}

// asksAt is asks on a device whose root is the folder root of home.
func asksAt(t *testing.T, dnf, home, dir string, query ...string) string {
	t.Helper()
	conf := filepath.Join(home, "dnf.conf")
	text := fmt.Sprintf("[main]\ncachedir=%[1]s/cache\nlogdir=%[1]s/log\npersistdir=%[1]s/persist\nreposdir=/dev/null\nvarsdir=/dev/null\nplugins=0\nignorearch=1\n", home)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-q", "--config", conf, "--releasever", "1", "--installroot", filepath.Join(home, "root"), "--repofrompath=x,file://" + dir, "--repo", "x"}, query...)
	return run(t, []string{"HOME=" + home}, dnf, args...)
}
