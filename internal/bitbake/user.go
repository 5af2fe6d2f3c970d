package bitbake

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"slipway/internal/errs"
)

// identity is who BitBake runs as; nil credentials mean as we are.
type identity struct {
	name     string
	uid, gid int
	drop     bool // we are root, and become somebody else
}

// lookupUser finds the build user. BitBake refuses root, so root must name one.
func lookupUser(name string) (*identity, error) {
	me := os.Geteuid()
	if name == "" {
		if me == 0 {
			return nil, errs.E(errs.Invalid, "BitBake does not run as root, and no build user is named", errs.Hint("useradd --create-home slipway-build, and build: {user: slipway-build} in settings.yaml"),
				errs.Hint("or run slipway as an ordinary user"))
		}
		return &identity{uid: me, gid: os.Getegid()}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, errs.E(errs.NotFound, "the build user "+name+" does not exist", err, errs.Hint("useradd --create-home "+name))
	}
	id := &identity{name: name}
	if id.uid, err = strconv.Atoi(u.Uid); err == nil {
		id.gid, err = strconv.Atoi(u.Gid)
	}
	switch {
	case err != nil:
		return nil, errs.E(errs.Invalid, "the build user "+name+" has no numeric id", err)
	case id.uid == 0:
		return nil, errs.E(errs.Invalid, "the build user "+name+" is root, and BitBake refuses it", errs.Hint("name an ordinary user"))
	case me == 0:
		id.drop = true
	case id.uid != me:
		return nil, errs.E(errs.Denied, "only root can build as "+name, errs.Hint("run slipway as "+name+", or take build.user out of settings.yaml"))
	}
	return id, nil
}

func (id *identity) attributes() *syscall.SysProcAttr {
	// A session of its own: a Ctrl-C on the terminal comes to us alone, and we end
	// BitBake in order.
	a := &syscall.SysProcAttr{Setsid: true}
	if id.drop {
		a.Credential = &syscall.Credential{Uid: uint32(id.uid), Gid: uint32(id.gid), Groups: []uint32{}}
	}
	return a
}

func (id *identity) own(path string) error {
	if !id.drop {
		return nil
	}
	if err := os.Lchown(path, id.uid, id.gid); err != nil {
		return errs.E(errs.Unavailable, "give "+path+" to the build user", err)
	}
	return nil
}

// foreign refuses a folder of the build that somebody else's files are in: another build
// user had it before, and BitBake would end in the middle with "Permission denied".
func (id *identity) foreign(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errs.E(errs.Unavailable, "read "+path, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != id.uid {
			return errs.E(errs.Denied, fmt.Sprintf("%s belongs to the user with id %d, and BitBake runs as %d", filepath.Join(path, e.Name()), st.Uid, id.uid),
				errs.Hintf("build as the user who began this build, or remove %s and build it from its beginning", path))
		}
	}
	return nil
}

// reads checks that the build user may read every file of a mirror.
func (id *identity) reads(mirror string) error {
	if mirror == "" || !id.drop {
		return nil
	}
	var bad []string
	err := filepath.WalkDir(mirror, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		need := os.FileMode(0o4)
		if e.IsDir() {
			need = 0o5
		}
		if ok && int(st.Uid) != id.uid && info.Mode().Perm()&need != need {
			bad = append(bad, path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.E(errs.Unavailable, "read the mirror "+mirror, err)
	}
	if len(bad) > 0 {
		return errs.E(errs.Denied, fmt.Sprintf("the build user %s cannot read %d files of the mirror, the first is %s", id.name, len(bad), bad[0]),
			errs.Hintf("remove %s: it is made again of the releases; or chmod -R a+rX %s", filepath.Dir(mirror), mirror))
	}
	return nil
}

// reaches checks that the build user may enter every folder on the way.
func (id *identity) reaches(paths []string) error {
	if !id.drop {
		return nil
	}
	var bad errs.List
	seen := map[string]bool{}
	for _, path := range paths {
		for d := path; !seen[d]; d = filepath.Dir(d) {
			seen[d] = true
			info, err := os.Stat(d)
			if err != nil {
				bad = append(bad, errs.E(errs.NotFound, "folder "+d, err))
				continue
			}
			st, ok := info.Sys().(*syscall.Stat_t)
			bit := os.FileMode(0o001)
			if ok && int(st.Uid) == id.uid {
				bit = 0o100
			} else if ok && int(st.Gid) == id.gid {
				bit = 0o010
			}
			if info.Mode().Perm()&bit == 0 {
				bad = append(bad, errs.E(errs.Denied, "the build user "+id.name+" cannot enter "+d, errs.Hint("chmod a+x "+d)))
			}
		}
	}
	return bad.Err()
}
