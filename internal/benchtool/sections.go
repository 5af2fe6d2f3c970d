package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"slipway/internal/rpmmd"
	"slipway/internal/sign"
)

// metadata: the repodata of a folder, beside createrepo_c.
func (b *bench) metadata(ctx context.Context) error {
	version, err := output(ctx, "createrepo-c", "createrepo_c", "--version")
	if err != nil {
		return err
	}
	version = regexp.MustCompile(`[0-9]+(\.[0-9]+)+`).FindString(version)
	dir := filepath.Join(b.dir, "packages")
	if err := makePackages(dir, b.n); err != nil {
		return err
	}
	clean := func() error { return os.RemoveAll(filepath.Join(dir, "repodata")) }
	ours := func(c rpmmd.Compression) job {
		return job{name: "Slipway, " + string(c), args: []string{b.self, "do-index", dir, string(c)}, count: b.n, prepare: clean}
	}
	theirs := func(c, flag string) job {
		return job{name: "createrepo_c, " + c, args: []string{"createrepo_c", "--quiet", "--no-database", "--general-compress-type=" + flag, dir}, count: b.n, prepare: clean}
	}
	var sizes []string
	// Every one of them is run once before it counts: what it writes must hold all packages.
	var jobs []job
	try := func(j job) error {
		if _, err := measure(ctx, j); err != nil {
			return err
		}
		repo, err := rpmmd.ReadRepo(func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) })
		if err != nil {
			return fmt.Errorf("what %s wrote: %w", j.name, err)
		}
		if len(repo.Primary) != b.n || len(repo.Filelists) != b.n || len(repo.Other) != b.n {
			return fmt.Errorf("%s wrote %d packages, there are %d", j.name, len(repo.Primary), b.n)
		}
		var size int64
		for _, r := range repo.Repomd.Records {
			size += r.Size
		}
		jobs, sizes = append(jobs, j), append(sizes, fmt.Sprintf("%s %d KiB", j.name, size>>10))
		return nil
	}
	for _, j := range []job{ours(rpmmd.Zstd), ours(rpmmd.Gzip), theirs("gzip", "gz")} {
		if err := try(j); err != nil {
			return err
		}
	}
	peer := 2
	zstd := "It cannot write zstd, which is Slipway's default: the second row is the fair comparison."
	if err := try(theirs("zstd", "zstd")); err == nil {
		peer, zstd = 3, "It writes zstd as Slipway does: compare rows of the same compression."
	}
	results, err := compare(ctx, b.runs, jobs...)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "## Metadata of a folder\n\n`rpm.ReadFile` of every package (its headers and the sha256 of the file) and `rpmmd.Build`, written to `repodata/`, beside `createrepo_c --no-database` (%s). %s %d packages: %s.\n", version, zstd, b.n, made)
	b.table("program", results, peer)
	fmt.Fprintf(b.out, "\nWhat they wrote, compressed: %s.\n", strings.Join(sizes, "; "))
	return nil
}

// signing: Ed25519 signatures in packages, beside rpmsign with gpg and the same key.
func (b *bench) signing(ctx context.Context) error {
	version, err := output(ctx, "rpm", "rpmsign", "--version")
	if err != nil {
		return err
	}
	gpg, err := output(ctx, "gnupg", "gpg", "--version")
	if err != nil {
		return err
	}
	gpg, _, _ = strings.Cut(gpg, "\n")
	gpg = "GnuPG " + gpg[strings.LastIndexByte(gpg, ' ')+1:]
	few := min(b.n, 50)
	unsigned, ours, theirs := filepath.Join(b.dir, "unsigned"), filepath.Join(b.dir, "ours"), filepath.Join(b.dir, "theirs")
	if err := makePackages(unsigned, b.n); err != nil {
		return err
	}
	keyFile, home, db := filepath.Join(b.dir, "keys/key.asc"), filepath.Join(b.dir, "gpg"), filepath.Join(b.dir, "db")
	for _, dir := range []string{home, db} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	key, err := sign.Generate(sign.Options{Name: "Bench", Algorithm: sign.Ed25519, Created: time.Now().Add(-time.Hour)})
	if err != nil {
		return err
	}
	if err := key.Save(keyFile); err != nil {
		return err
	}
	ring, through := filepath.Join(b.dir, "ring"), filepath.Join(b.dir, "through")
	if err := keyFolder(ring, key); err != nil {
		return err
	}
	public := filepath.Join(b.dir, "public.asc")
	if err := os.WriteFile(public, key.PublicArmored(), 0o644); err != nil {
		return err
	}
	if _, err := output(ctx, "gnupg", "gpg", "--homedir", home, "--batch", "--import", keyFile); err != nil {
		return err
	}
	endAgent := func(ctx context.Context) error {
		_, err := output(ctx, "gnupg", "gpgconf", "--homedir", home, "--kill", "gpg-agent")
		return err
	}
	if err := endAgent(ctx); err != nil {
		return err
	}
	if _, err := reap("gpg"); err != nil {
		return err
	}
	if _, err := output(ctx, "rpm", "rpmkeys", "--dbpath", db, "--import", public); err != nil {
		return err
	}
	program, err := exec.LookPath("gpg")
	if err != nil {
		return err
	}
	args := []string{"rpmsign", "--addsign", "--define", "__gpg " + program, "--define", "_gpg_name " + key.Fingerprint(), "--define", "_gpg_path " + home}
	for i := range few {
		args = append(args, filepath.Join(theirs, packageName(i)))
	}
	results, err := compare(ctx, b.runs,
		job{name: "Slipway", args: []string{b.self, "do-sign", keyFile, unsigned, ours}, count: b.n, prepare: func() error { return empty(ours) }},
		job{name: "Slipway, signer process", args: []string{b.self, "do-sign-process", ring, unsigned, through}, count: b.n, prepare: func() error { return empty(through) }},
		job{name: "rpmsign", args: args, count: few, finish: endAgent, prepare: func() error {
			if err := empty(theirs); err != nil {
				return err
			}
			return makePackages(theirs, few)
		}})
	if err != nil {
		return err
	}
	for _, dir := range []string{ours, through, theirs} {
		for i := range few {
			file := filepath.Join(dir, packageName(i))
			if out, err := output(ctx, "rpm", "rpmkeys", "--dbpath", db, "-K", file); err != nil || !strings.Contains(out, "signatures OK") {
				return fmt.Errorf("rpm does not accept what %s signed: %s %w", filepath.Base(dir), out, err)
			}
		}
	}
	fmt.Fprintf(b.out, "## Signing packages\n\n`rpm.Resign` with a `sign.Key` (Ed25519), which checks header and payload first, alone and with the key in the signer process, which is counted, beside `rpmsign --addsign` (%s) with the same key in gpg (%s); its agent is counted. %d packages for Slipway, %d for rpmsign, which starts gpg for each; compare the time of one. Afterwards `rpmkeys -K` accepts both.\n",
		version, gpg, b.n, few)
	b.table("program", results, 2)
	return nil
}

// headers: who the packages of a folder are, beside rpm -qp.
func (b *bench) headers(ctx context.Context) error {
	version, err := output(ctx, "rpm", "rpm", "--version")
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "packages")
	if err := makePackages(dir, b.n); err != nil {
		return err
	}
	files, err := packagesOf(dir)
	if err != nil {
		return err
	}
	db := []string{"--dbpath", filepath.Join(b.dir, "db"), "-qp"}
	want, err := output(ctx, "rpm", "rpm", append(db, files...)...)
	if err != nil {
		return err
	}
	if got, err := output(ctx, "", b.self, "do-read", dir); err != nil || got != want {
		return fmt.Errorf("rpm -qp and rpm.Read name other packages: %w", err)
	}
	results, err := compare(ctx, b.runs,
		job{name: "Slipway", args: []string{b.self, "do-read", dir}, count: b.n},
		job{name: "rpm -qp", args: append([]string{"rpm"}, append(db, files...)...), count: b.n})
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "## Reading headers\n\n`rpm.Read` of every package, all of the header as a `Package`, beside one `rpm -qp` of all files (%s), which prints the names alone and checks the header's digests. %d packages.\n", version, b.n)
	b.table("program", results, 1)
	return nil
}

func empty(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o755)
}
