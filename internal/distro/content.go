package distro

import (
	"sort"
)

// Content is what a package does to a device, and nothing else: two packages
// are the same when the digests of their contents are. Build time, build host,
// the version of rpm, compression, signatures, changelog and the source
// package's name are no part of it.
//
// docs/format/content-digest.md describes the digest; the form is version 1.
type Content struct {
	Schema  int                 `json:"schema"` // 1
	Name    string              `json:"name"`
	Epoch   int                 `json:"epoch"`
	Version string              `json:"version"`
	Release string              `json:"release"`
	Arch    string              `json:"arch"`
	Summary string              `json:"summary"`
	Text    string              `json:"description"`
	License string              `json:"license"`
	Deps    map[string][]string `json:"dependencies"` // kind ("requires", ...) -> "name flags evr (sense)", sorted
	Scripts map[string]string   `json:"scripts"`      // kind -> interpreter, newline, body; triggers included
	Files   []ContentFile       `json:"files"`        // by path
}

// ContentFile is one file's attributes and the digest of its bytes.
type ContentFile struct {
	Path   string `json:"path"`
	Mode   uint32 `json:"mode"` // type and permission bits, as in the header
	User   string `json:"user"`
	Group  string `json:"group"`
	Size   int64  `json:"size"`
	Digest string `json:"digest,omitempty"` // of a regular file, as in the header
	Link   string `json:"link,omitempty"`
	Flags  uint32 `json:"flags,omitempty"` // config, ghost, doc, ...
	Caps   string `json:"caps,omitempty"`
	Rdev   uint32 `json:"rdev,omitempty"`
}

// ContentDigest sorts and hashes a content.
func ContentDigest(c Content) Digest {
	c.Schema = 1
	deps := map[string][]string{}
	for k, v := range c.Deps {
		if len(v) > 0 {
			v = append([]string(nil), v...)
			sort.Strings(v)
			deps[k] = v
		}
	}
	c.Deps = deps
	c.Files = append([]ContentFile(nil), c.Files...)
	sort.Slice(c.Files, func(i, j int) bool { return c.Files[i].Path < c.Files[j].Path })
	return DigestOf(CanonicalJSON(c))
}
