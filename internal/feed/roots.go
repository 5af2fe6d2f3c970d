package feed

import (
	"fmt"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/tlog"
)

// answered gives the files that no index names and a statement answers for: images,
// say. They are read as packages are.
func (v *verifier) answered() []string {
	var names []string
	for _, s := range v.read {
		for _, f := range v.l.Files(s) {
			if _, ok := v.seen[f.Path]; !ok {
				names = append(names, f.Path)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// roots makes the Merkle root of every release's files again, from the digests of the
// bytes that are there, and compares it with what the statement says: only then does
// the proof from a file to the log stand on bytes. hashed holds the digests by name; it
// is nil when the files were not read, and then only the statements' own lists are
// compared.
func (v *verifier) roots(hashed map[string]distro.Digest) {
	told := map[string]bool{}
	rootless := 0
	defer func() {
		if rootless > 0 {
			v.report.Notes = append(v.report.Notes, fmt.Sprintf("%d release statements have no files_root: an older slipway wrote them; their files were compared one by one", rootless))
		}
	}()
	for _, s := range v.read {
		name := v.l.Statement(s.Version)
		if s.FilesRoot == "" {
			if rootless++; hashed == nil {
				continue
			}
		}
		stated := v.l.Files(s)
		there := slices.Clone(stated)
		missing := false
		for i, f := range stated {
			if hashed == nil {
				break
			}
			got, ok := hashed[f.Path]
			if b, gone := v.removed[f.Path]; gone && got == b.notice {
				got = b.file.Digest // as the signed notice says: the list stays proved
			}
			if there[i].SHA256 = got; ok && got == f.SHA256 {
				continue
			}
			if missing = true; told[f.Path] || v.found(f.Path) {
				continue // said before, with its reason
			}
			told[f.Path] = true
			if !ok {
				v.find("%s: gone, and release %s states it", f.Path, s.Version)
			} else {
				v.find("%s: digest %s, release %s states %s", f.Path, got, s.Version, f.SHA256)
			}
		}
		if missing || s.FilesRoot == "" {
			continue
		}
		if root, err := tlog.Root(there); err != nil {
			v.find("%s: files_root: %v", name, err)
		} else if root != s.FilesRoot {
			v.find("%s: its files_root is %s, its files make %s", name, s.FilesRoot.Short(), root.Short())
		}
	}
}

// found reports whether a finding names a file already.
func (v *verifier) found(name string) bool {
	return slices.ContainsFunc(v.report.Findings, func(f string) bool {
		return strings.HasPrefix(f, name+": ") || strings.Contains(f, ": "+name+" ")
	})
}
