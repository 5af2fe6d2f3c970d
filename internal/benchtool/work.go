package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"time"

	"slipway/internal/rpm"
	"slipway/internal/rpmmd"
	"slipway/internal/sign"
)

// work is what is measured of ours, each in a process of its own.
var work = map[string]func(context.Context, []string) error{
	"do-index":   doIndex,     // FOLDER zstd|gzip
	"do-sign":    doSign,      // KEY FOLDER OUT
	"do-read":    doRead,      // FOLDER
	"do-publish": doPublish,   // WORLD INDEX SERIAL
	"make":       doMake,      // FOLDER FROM TO: not measured, for trying things out
	"world":      doWorld,     // WORLD PACKAGES: the same
	"fresh":      doFresh,     // WORLD INDEX SERIAL: the same
	"sign-world": doSignWorld, // FOLDER PACKAGES: the same, for do-sign and do-sign-process
}

// doWorld makes what do-publish works on, before its first release.
func doWorld(_ context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return makeWorld(args[0], n)
}

// doFresh makes the packages that a release of a world brings.
func doFresh(_ context.Context, args []string) error {
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	serial, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	return makeFresh(args[0], size, serial)
}

// doSignWorld makes unsigned packages, a key and the same key for a signer process.
func doSignWorld(_ context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := makePackages(filepath.Join(args[0], "unsigned"), n); err != nil {
		return err
	}
	key, err := sign.Generate(sign.Options{Name: "Bench", Algorithm: sign.Ed25519, Created: time.Now().Add(-time.Hour)})
	if err != nil {
		return err
	}
	if err := key.Save(filepath.Join(args[0], "keys/key.asc")); err != nil {
		return err
	}
	return keyFolder(filepath.Join(args[0], "ring"), key)
}

// profiled runs do, and writes where its time went to the file that BENCH_PROFILE
// names, with the number of this process.
func profiled(do func() error) error {
	name := os.Getenv("BENCH_PROFILE")
	if name == "" {
		return do()
	}
	f, err := os.Create(fmt.Sprintf("%s.%d", name, os.Getpid()))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return do()
}

// doMake writes small packages into a folder.
func doMake(_ context.Context, args []string) error {
	from, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	to, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	return makeSmall(args[0], from, to)
}

// doIndex writes FOLDER/repodata, as createrepo_c does.
func doIndex(_ context.Context, args []string) error {
	dir, compression := args[0], rpmmd.Compression(args[1])
	files, err := packagesOf(dir)
	if err != nil {
		return err
	}
	entries := make([]rpmmd.Entry, len(files))
	for i, file := range files {
		p, err := rpm.ReadFile(file)
		if err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		entries[i] = rpmmd.Entry{Package: p, Href: filepath.Base(file), FileTime: info.ModTime().Unix()}
	}
	md, err := rpmmd.Build(entries, rpmmd.Options{Revision: "1", Timestamp: 1_700_000_000, Compression: compression})
	if err != nil {
		return err
	}
	out := filepath.Join(dir, "repodata")
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	for _, f := range md.Files {
		if err := os.WriteFile(filepath.Join(out, f.Name), f.Data, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(out, "repomd.xml"), md.Repomd, 0o644)
}

// doSign signs every package of a folder into another.
func doSign(ctx context.Context, args []string) error {
	key, err := sign.Load(args[0])
	if err != nil {
		return err
	}
	files, err := packagesOf(args[1])
	if err != nil {
		return err
	}
	return signFiles(ctx, key, time.Now(), files, args[2])
}

// signFiles signs packages into a folder, as a publisher does: some at a time.
func signFiles(ctx context.Context, key sign.Signer, at time.Time, files []string, to string) error {
	for chunk := range slices.Chunk(files, 64) {
		if err := signChunk(ctx, key, at, chunk, to); err != nil {
			return err
		}
	}
	return nil
}

func signChunk(ctx context.Context, key sign.Signer, at time.Time, files []string, to string) error {
	signing, headers, names := make([]*rpm.Signing, len(files)), make([][]byte, len(files)), make([]string, len(files))
	for i, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if signing[i], err = rpm.Prepare(f, info.Size()); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		headers[i], names[i] = signing[i].Header(), filepath.Base(file)
	}
	sigs, err := sign.All(ctx, key, headers, names, at)
	if err != nil {
		return err
	}
	for i, s := range signing {
		out, err := os.Create(filepath.Join(to, names[i]))
		if err != nil {
			return err
		}
		if _, err := s.Write(out, sigs[i], key.RPMTag()); err != nil {
			out.Close()
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
	}
	return nil
}

// doRead reads the headers of every package of a folder and prints who they are,
// as rpm -qp does.
func doRead(_ context.Context, args []string) error {
	files, err := packagesOf(args[0])
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for _, file := range files {
		if err := readOne(out, file); err != nil {
			return err
		}
	}
	return out.Flush()
}

func readOne(out *bufio.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := rpm.Read(f, info.Size(), file)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s-%s-%s.%s\n", p.Name, p.Version, p.Release, p.Arch)
	return err
}
