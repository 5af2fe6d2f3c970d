// Package examples holds example distributions as sequences of commits, inside
// the program: `slipway init --example halyard` makes a git repository of them.
//
// A distribution is a folder here with revision-1, revision-2, ...: the first
// holds the whole workspace, each further one the files that change. In each,
// commit.txt says who committed it and when, with fixed dates, what to delete, which
// files are taken from meta-slipway, and why. Each test of the whole cycle uses them, so they stay small: all of
// halyard-packages builds in seconds.
package examples

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/layers"
)

//go:embed all:halyard all:halyard-packages
var files embed.FS

// Revision is one prepared commit.
type Revision struct {
	Tag     string // "revision-1"
	Message string // of the commit, with a final newline
	Author  string // "Name <address>"
	Date    time.Time
	Files   map[string][]byte // path in the workspace -> bytes, of new and changed files
	Exec    map[string]bool   // those of Files that are programs
	Delete  []string          // paths, in the order of commit.txt

	take [][2]string // path in the workspace, path in meta-slipway
}

// Halyard gives the revisions of Halyard Linux, oldest first: the first, a
// security fix in a library, and a feature with a new package, one split in two
// and a newer kernel. It has two boards, x86-64 and arm64: kernels, images, a first
// boot. Its runtime comes from Debian's packages, downloaded.
func Halyard() ([]Revision, error) { return read(files, "halyard") }

// HalyardPackages is Halyard without boards, kernels and images. Its runtime is
// that of this machine, so that it needs no download.
func HalyardPackages() ([]Revision, error) { return read(files, "halyard-packages") }

// Names are those that `slipway init --example` knows.
var Names = []string{"halyard", "halyard-packages"}

// Load gives the revisions of the example of that name.
func Load(name string) ([]Revision, error) { return read(files, name) }

// DeviceArches are the architectures, as Debian calls them, for which AddDevice
// wants a program slipway-device-<arch>.
var DeviceArches = []string{"amd64", "arm64"}

// AddDevice lays the programs slipway-device-<arch> of a folder beside their spec.
// When one is missing it leaves the package out, of the layers and the images, and
// gives false. An example without that spec stays as it is, and gives true.
func AddDevice(revisions []Revision, dir string) (bool, error) {
	const folder, name = "layers/halyard/specs/slipway-device/", "slipway-device"
	first := revisions[0]
	if first.Files[folder+name+".spec"] == nil {
		return true, nil
	}
	for _, arch := range DeviceArches {
		program := name + "-" + arch
		data, err := os.ReadFile(filepath.Join(dir, program))
		if os.IsNotExist(err) {
			leaveOut(revisions, folder, name)
			return false, nil
		}
		if err != nil {
			return false, errs.E(errs.Unavailable, "read "+program, err)
		}
		first.Files[folder+program], first.Exec[folder+program] = data, true
	}
	return true, nil
}

// leaveOut takes the folder of a spec out of all revisions, and the lines of its
// package out of their images.
func leaveOut(revisions []Revision, folder, name string) {
	for _, r := range revisions {
		for file, data := range r.Files {
			switch {
			case strings.HasPrefix(file, folder):
				delete(r.Files, file)
				delete(r.Exec, file)
			case path.Base(path.Dir(file)) == "images":
				r.Files[file] = bytes.ReplaceAll(data, []byte("  - "+name+"\n"), nil)
			}
		}
	}
}

func read(fsys fs.FS, name string) ([]Revision, error) {
	var all []Revision
	for n := 1; ; n++ {
		tag := fmt.Sprintf("revision-%d", n)
		sub, err := fs.Sub(fsys, path.Join(name, tag))
		if err != nil {
			return nil, errs.Wrap(err, "example %s", name)
		}
		if _, err := fs.Stat(sub, "commit.txt"); err != nil {
			if n == 1 {
				return nil, errs.Ef(errs.NotFound, "there is no example %s", name)
			}
			return all, nil
		}
		r, err := readRevision(sub, tag)
		if err != nil {
			return nil, errs.Wrap(err, "example %s, %s", name, tag)
		}
		all = append(all, r)
	}
}

func readRevision(sub fs.FS, tag string) (Revision, error) {
	r := Revision{Tag: tag, Files: map[string][]byte{}, Exec: map[string]bool{}}
	err := fs.WalkDir(sub, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(sub, p)
		if err != nil {
			return err
		}
		if p == "commit.txt" {
			return r.header(string(data))
		}
		r.add(p, data)
		return nil
	})
	for _, t := range r.take {
		data, terr := fs.ReadFile(layers.MetaSlipway(), t[1])
		if terr != nil {
			return r, errs.E(errs.Invalid, "commit.txt takes a file that meta-slipway does not have: "+t[1], terr)
		}
		r.add(t[0], data)
	}
	return r, err
}

func (r *Revision) add(path string, data []byte) {
	r.Files[path] = data
	// An embedded file has lost its mode.
	if strings.HasPrefix(string(data), "#!") {
		r.Exec[path] = true
	}
}

// header reads commit.txt: lines "Author:", "Date:" (RFC 3339), any number of
// "Delete:" and "Take:" (a path, and the file's in meta-slipway), an empty line, the
// message.
func (r *Revision) header(text string) error {
	head, message, ok := strings.Cut(text, "\n\n")
	if !ok {
		return errs.E(errs.Invalid, "commit.txt has no message")
	}
	r.Message = message
	for _, line := range strings.Split(head, "\n") {
		key, value, _ := strings.Cut(line, ": ")
		var err error
		switch key {
		case "Author":
			r.Author = value
		case "Date":
			r.Date, err = time.Parse(time.RFC3339, value)
		case "Take":
			to, from, found := strings.Cut(value, " ")
			if !found {
				err = errs.Ef(errs.Invalid, "%q names one path, not two", line)
			}
			r.take = append(r.take, [2]string{to, from})
		case "Delete":
			r.Delete = append(r.Delete, value)
		default:
			err = errs.Ef(errs.Invalid, "%q", line)
		}
		if err != nil {
			return errs.Wrap(err, "commit.txt")
		}
	}
	if r.Author == "" || r.Date.IsZero() {
		return errs.E(errs.Invalid, "commit.txt lacks Author or Date")
	}
	return nil
}
