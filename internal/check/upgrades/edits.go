package upgrades

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"slipway/internal/dnf"
)

// line is what an administrator adds; "#" is a comment nearly everywhere, and no
// scriptlet of ours reads these files for anything else.
const line = "# edited by the administrator of this device\n"

// edits are the configuration files that were edited, by path.
type edits map[string]dnf.ConfigFile

// edit adds a line to every file that is marked config(noreplace). The root's own
// links cannot lead out of the root.
func edit(root *dnf.Root, files []dnf.ConfigFile) (edits, error) {
	tree, err := os.OpenRoot(root.Path())
	if err != nil {
		return nil, err
	}
	defer func() { _ = tree.Close() }()
	done := edits{}
	for _, c := range files {
		if !c.NoReplace || c.Ghost {
			continue
		}
		name := strings.TrimPrefix(c.Path, "/")
		st, err := tree.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // rpm -Va tells of it
		}
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() {
			continue
		}
		data, err := tree.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if len(data) > 0 && data[len(data)-1] != '\n' {
			data = append(data, '\n')
		}
		if err := tree.WriteFile(name, append(data, line...), st.Mode().Perm()); err != nil {
			return nil, err
		}
		done[c.Path] = c
	}
	return done, nil
}

// lost gives, by path, the edited files whose edit is gone. A file that no
// package brings any more may have become .rpmsave; one that is there must have the
// edit, also where it is no configuration file any more.
func (e edits) lost(root *dnf.Root, owned []dnf.ConfigFile) []dnf.ConfigFile {
	tree, err := os.OpenRoot(root.Path())
	if err != nil {
		return nil
	}
	defer func() { _ = tree.Close() }()
	kept := func(path string) bool {
		data, err := tree.ReadFile(strings.TrimPrefix(path, "/"))
		return err == nil && strings.Contains(string(data), line)
	}
	var out []dnf.ConfigFile
	for path, c := range e {
		has := slices.ContainsFunc(owned, func(o dnf.ConfigFile) bool { return o.Path == path })
		if _, err := tree.Lstat(strings.TrimPrefix(path, "/")); err == nil {
			has = true
		}
		if !kept(path) && (has || !kept(path+".rpmsave")) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b dnf.ConfigFile) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// beside lists what rpm laid beside the edited files: .rpmnew (the new version's file),
// .rpmsave and .rpmorig (the device's), sorted.
func (e edits) beside(root *dnf.Root) ([]string, error) {
	tree, err := os.OpenRoot(root.Path())
	if err != nil {
		return nil, err
	}
	defer func() { _ = tree.Close() }()
	var out []string
	for path := range e {
		for _, ending := range []string{".rpmnew", ".rpmsave", ".rpmorig"} {
			if _, err := tree.Lstat(strings.TrimPrefix(path, "/") + ending); err == nil {
				out = append(out, path+ending)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// explain tells whether a line of rpm -Va is no more than an edit.
func (e edits) explain(v dnf.Verify) bool {
	_, edited := e[v.Path]
	return edited && v.Attr == "c" && !v.Missing
}
