package store

import (
	"os"
	"path/filepath"
)

// Link makes a file of one folder's tree appear in another folder's, as a hard
// link: no bytes are copied, and what changes one from outside changes both. It
// reports false, and does nothing, where that cannot be done: a tree that is no
// folder, another file system, a name that is taken; then copy.
func Link(from, to Tree, name string) (bool, error) {
	a, ok := from.(*folderTree)
	b, ok2 := to.(*folderTree)
	if !ok || !ok2 {
		return false, nil
	}
	if err := CheckName(name); err != nil {
		return false, err
	}
	path := b.path(name)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return false, err
	}
	if os.Link(a.path(name), path) != nil {
		return false, nil
	}
	b.mark(path)
	return true, nil
}
