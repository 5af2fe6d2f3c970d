package source

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// Compared says which packages of a folder are the published ones.
type Compared struct {
	Same      []string `json:"same"`      // bit for bit, but for the signature
	Different []string `json:"different"` // the same name and number, other bytes
	Own       []string `json:"own"`       // not published under this name and number
	Published int      `json:"published"` // packages of the release
}

// Compare looks at every package below a deploy folder. A package is the published
// one when its header digest is: the header has the payload's digest, and a signature
// changes neither. The lists are sorted and never nil.
func Compare(ctx context.Context, export, deploy string) (Compared, error) {
	out := Compared{Same: []string{}, Different: []string{}, Own: []string{}}
	data, err := readFile(filepath.Join(export, "packages.json"))
	if err != nil {
		return out, errs.E(errs.NotFound, export+" is no export of a release: it has no packages.json", err)
	}
	var all []PublishedPackage
	if err := json.Unmarshal(data, &all); err != nil {
		return out, errs.E(errs.Invalid, "packages.json of "+export+" is damaged", err)
	}
	out.Published = len(all)
	known := map[string]PublishedPackage{}
	for _, p := range all {
		known[p.Package] = p
	}
	if info, err := os.Stat(deploy); err != nil || !info.IsDir() {
		return out, errs.E(errs.NotFound, "there is no folder "+deploy, errs.Hint("build first; name the folder when TMPDIR is elsewhere: slipway source compare EXPORT tmp/deploy/rpm"))
	}
	err = filepath.WalkDir(deploy, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return errs.E(errs.Unavailable, "read "+path, err)
		}
		if !e.Type().IsRegular() || !strings.HasSuffix(path, ".rpm") {
			return ctx.Err()
		}
		p, err := rpm.ReadFile(path)
		if err != nil {
			return errs.Wrap(err, "package %s", path)
		}
		name := p.NEVRA()
		switch was, ok := known[name]; {
		case !ok:
			out.Own = append(out.Own, name)
		case was.Header == p.HeaderDigest:
			out.Same = append(out.Same, name)
		default:
			out.Different = append(out.Different, name)
		}
		return nil
	})
	for _, l := range [][]string{out.Same, out.Different, out.Own} {
		slices.Sort(l)
	}
	if err == nil && len(out.Same)+len(out.Different)+len(out.Own) == 0 {
		err = errs.E(errs.NotFound, "there is no package in "+deploy)
	}
	return out, err
}

func (c Compared) String() string {
	return fmt.Sprintf("%d packages are the published ones, %d differ, %d are your own", len(c.Same), len(c.Different), len(c.Own))
}

// readFile is os.ReadFile with a limit that no file of ours reaches.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > 256<<20 {
		return nil, fmt.Errorf("%s is larger than 256 MiB", path)
	}
	return os.ReadFile(path)
}
