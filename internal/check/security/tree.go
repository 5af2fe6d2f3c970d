package security

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"slipway/internal/errs"
	"slipway/internal/imagefs"
	"slipway/internal/rpmdb"
)

// file is what is known of one name once an image was read.
type file struct {
	imagefs.File
	text []byte // its content, when the rules ask for it
	kept bool
	big  bool // they ask for it, and it is larger than they read
	hits []hit
}

// tree is one file system in memory: all names, and the content of those that the
// rules ask for.
type tree struct {
	part  imagefs.Part
	root  bool
	files map[string]*file
	names []string // sorted
}

// most that is kept of one file system, bytes, beside an rpm database.
const maxKept = 512 << 20

// collect reads all of a file system, once.
func collect(ctx context.Context, p *imagefs.Part) (*tree, error) {
	t := &tree{part: *p, files: map[string]*file{}}
	s := newScanner()
	kept := int64(0)
	err := p.Walk(ctx, func(f *imagefs.File) error {
		x := &file{File: *f}
		t.files[f.Path] = x
		if !f.Mode.IsRegular() || f.Size == 0 || f.Hard != "" {
			x.kept = f.Mode.IsRegular() && f.Hard == ""
			return nil
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		if limit := keep(f.Path); limit > 0 {
			if f.Size > limit || kept+f.Size > maxKept && limit < maxDatabase {
				x.big = true
			} else {
				if x.text, err = io.ReadAll(io.LimitReader(r, limit)); err != nil {
					return err
				}
				kept += int64(len(x.text))
				x.kept = true
				s.text(x.text, f.Size)
				x.hits = s.take()
				return nil
			}
		}
		if err := s.read(ctx, r, f.Size); err != nil {
			return errs.Wrap(err, "%s", f.Path)
		}
		x.hits = s.take()
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.names = make([]string, 0, len(t.files))
	for n := range t.files {
		t.names = append(t.names, n)
	}
	slices.Sort(t.names)
	for _, n := range []string{"etc", "usr", "bin/sh", "sbin/init"} {
		t.root = t.root || t.get(n) != nil || len(t.under(n)) > 0
	}
	return t, nil
}

const (
	maxConfig   = 1 << 20
	maxDatabase = 512 << 20
)

// configFolders hold what the rules read.
var configFolders = []string{"etc/", "usr/etc/", "usr/lib/systemd/", "lib/systemd/", "usr/lib/pam.d/", "usr/share/dnf5/repos.d/", "usr/lib/tmpfiles.d/"}

// keep says how large a file may be that the rules want to read; 0 for one that
// they do not ask for.
func keep(name string) int64 {
	dir, base := path.Split(name)
	for _, d := range rpmdb.Folders {
		if dir == d+"/" && (base == rpmdb.File || base == rpmdb.WAL) {
			return maxDatabase
		}
	}
	for _, d := range configFolders {
		if strings.HasPrefix(name, d) {
			return maxConfig
		}
	}
	switch base {
	case "os-release", "start_getty", "authorized_keys", "authorized_keys2", "machine-id", ".netrc", ".git-credentials", "credentials": // programs and files of people
		return maxConfig
	}
	if bootFile(base) || strings.Contains(name, "loader/entries/") && strings.HasSuffix(base, ".conf") {
		return maxConfig
	}
	return 0
}

// get finds a file by its name, following links inside the image; nil when there is none.
func (t *tree) get(name string) *file {
	f := t.files[t.resolve(name)]
	for range 40 {
		if f == nil || f.Hard == "" {
			return f
		}
		f = t.files[f.Hard]
	}
	return nil
}

// resolve gives the name without links in it, whether there is a file of that name
// or not; "" when links go in circles. Folders that an archive does not list are there.
func (t *tree) resolve(name string) string {
	at, todo := "", strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		c := todo[0]
		todo = todo[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			at = path.Dir("/" + at)[1:]
			continue
		}
		next := strings.TrimPrefix(at+"/"+c, "/")
		f := t.files[next]
		if f != nil && f.Mode&fs.ModeSymlink != 0 {
			if links++; links > 40 {
				return ""
			}
			if path.IsAbs(f.Link) {
				at = ""
			}
			if todo = append(strings.Split(f.Link, "/"), todo...); len(todo) > 4096 {
				return ""
			}
			continue
		}
		at = next
	}
	return at
}

// where gives the name by which a file is in the image, links followed.
func (f *file) where(t *tree, line int) at { return at{t: t, path: f.Path, line: line} }

// under lists all files below a folder, in the order of names; links are not followed.
func (t *tree) under(dir string) []*file {
	dir += "/"
	i, _ := slices.BinarySearch(t.names, dir)
	var out []*file
	for ; i < len(t.names) && strings.HasPrefix(t.names[i], dir); i++ {
		out = append(out, t.files[t.names[i]])
	}
	return out
}

// in lists the files of a folder itself, links followed, which must be kept ones.
func (t *tree) in(dir string) []*file {
	dir = t.resolve(dir)
	var out []*file
	for _, f := range t.under(dir) {
		if path.Dir(f.Path) != dir {
			continue
		}
		if g := t.get(f.Path); g != nil && g.kept {
			out = append(out, &file{File: g.File, text: g.text, kept: true})
			out[len(out)-1].Path = f.Path
		}
	}
	return out
}

// lines shows the lines of a text file, counted from 1, without the newline.
func lines(b []byte, visit func(n int, line string)) {
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		visit(n, strings.TrimRight(line, "\r\n"))
	}
}
