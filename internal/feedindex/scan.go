package feedindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"slipway/internal/errs"
)

// file is a package's file as a look at its folder shows it. Equal values stand
// for equal bytes, as with createrepo_c --update.
type file struct {
	href  string // relative to the folder, by slashes
	size  int64
	mtime int64 // nanoseconds since 1970
}

// scan gives all *.rpm below dir, sorted by href. It does not go into repodata/,
// into hidden folders, nor behind symbolic links to folders.
func scan(ctx context.Context, dir string) ([]file, error) {
	s := scanner{dir: dir}
	s.folder(ctx, "")
	if err := s.problems.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(s.files, func(a, b file) int { return cmp.Compare(a.href, b.href) })
	return s.files, context.Cause(ctx)
}

type scanner struct {
	dir      string
	files    []file
	problems errs.List
}

func (s *scanner) fail(rel string, err error) {
	kind := errs.Unavailable
	if errors.Is(err, os.ErrNotExist) {
		kind = errs.NotFound
	}
	s.problems = append(s.problems, errs.E(kind, fmt.Sprintf("read %q", filepath.Join(s.dir, rel)), err))
}

func (s *scanner) folder(ctx context.Context, rel string) {
	d, err := os.Open(filepath.Join(s.dir, rel))
	if err != nil {
		s.fail(rel, err)
		return
	}
	defer d.Close()
	for ctx.Err() == nil {
		entries, err := d.ReadDir(1000)
		for _, e := range entries {
			name := e.Name()
			at := name
			if rel != "" {
				at = rel + "/" + name
			}
			switch {
			case e.IsDir():
				if name[0] != '.' && at != "repodata" {
					s.folder(ctx, at)
				}
			case strings.HasSuffix(name, ".rpm"):
				// Relative to the open folder: one short name for the kernel to look up.
				var st unix.Stat_t
				if err := unix.Fstatat(int(d.Fd()), name, &st, 0); err != nil {
					s.fail(at, err)
				} else if st.Mode&unix.S_IFMT == unix.S_IFREG {
					s.files = append(s.files, file{href: at, size: st.Size, mtime: st.Mtim.Nano()})
				} else if st.Mode&unix.S_IFMT != unix.S_IFDIR {
					s.problems = append(s.problems, errs.E(errs.Invalid, fmt.Sprintf("%q is no regular file", filepath.Join(s.dir, at))))
				}
			}
		}
		if err != nil || len(entries) == 0 {
			if err != nil && err != io.EOF {
				s.fail(rel, err)
			}
			return
		}
	}
}
