package store

import (
	"errors"
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

// LinkWithin makes a file of a folder's tree appear under a second name in it, as
// Link does. It reports false, and does nothing, where that cannot be done.
func LinkWithin(t Tree, name, second string) (bool, error) {
	l, ok := t.(interface {
		Link(name, second string) (bool, error)
	})
	if !ok {
		return false, nil
	}
	return l.Link(name, second)
}

// Link is what [LinkWithin] calls.
func (t *folderTree) Link(name, second string) (bool, error) {
	if err := errors.Join(CheckName(name), CheckName(second)); err != nil {
		return false, err
	}
	path := t.path(second)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return false, err
	}
	if os.Link(t.path(name), path) != nil {
		return false, nil
	}
	t.mark(path)
	return true, nil
}
