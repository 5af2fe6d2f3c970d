package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"
)

// NewFile is a file for [CreateAll].
type NewFile struct {
	Name    string
	Content io.Reader // read to its end before the next file is asked for
}

// CreateAll is [Tree].Create for many files: the same promises for each, and those
// that came before an error may be there or not. A folder waits for the disk once
// for up to batchFiles of them, which is several times cheaper. An error of files
// ends it and is returned as it is.
func CreateAll(ctx context.Context, t Tree, files iter.Seq2[NewFile, error]) error {
	if all, ok := t.(interface {
		CreateAll(context.Context, iter.Seq2[NewFile, error]) error
	}); ok {
		return all.CreateAll(ctx, files)
	}
	for f, err := range files {
		if err == nil {
			err = t.Create(ctx, f.Name, f.Content)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// batchFiles are written before the first of them is waited for. Each is an open file.
const batchFiles = 64

const syncFileRangeWrite = 2 // SYNC_FILE_RANGE_WRITE, sync_file_range(2)

// filled is a file that has its bytes and not yet its name.
type filled struct {
	*temp
	name string
}

// CreateAll is what the function [CreateAll] calls.
func (t *folderTree) CreateAll(ctx context.Context, files iter.Seq2[NewFile, error]) error {
	var batch []filled
	defer func() {
		for _, f := range batch {
			f.drop()
		}
	}()
	finish := func() error {
		for _, f := range batch {
			if err := f.sync(t.path(f.name)); err != nil {
				return err
			}
		}
		for len(batch) > 0 {
			if err := t.name(ctx, batch[0]); err != nil {
				return err
			}
			batch[0].drop()
			batch = batch[1:]
		}
		return nil
	}
	for f, err := range files {
		if err == nil {
			err = CheckName(f.Name)
		}
		if err != nil {
			return err
		}
		// Present files cost one reading and no writing.
		if done, err := t.present(ctx, f.Name, f.Content); done {
			continue
		} else if err != nil {
			return err
		}
		if len(batch) > 0 { // the disk begins with the last one while this one is written: for speed alone
			_ = syscall.SyncFileRange(int(batch[len(batch)-1].f.Fd()), 0, 0, syncFileRangeWrite)
		}
		tmp, err := newTemp(t.dir)
		if err != nil {
			return fault(err, "write", t.path(f.Name))
		}
		batch = append(batch, filled{tmp, f.Name})
		if _, err := tmp.write(ctx, f.Content, 0o644, t.path(f.Name)); err != nil {
			return err
		}
		if len(batch) == batchFiles {
			if err := finish(); err != nil {
				return err
			}
		}
	}
	return finish()
}

// name gives a synced file its name.
func (t *folderTree) name(ctx context.Context, f filled) error {
	path := t.path(f.name)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	// link, unlike rename, never replaces: two writers cannot both win.
	err := os.Link(f.f.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		if _, err := f.f.Seek(0, io.SeekStart); err != nil {
			return fault(err, "read", path)
		}
		_, err := t.present(ctx, f.name, f.f)
		return err
	}
	if err != nil {
		return fault(err, "write", path)
	}
	t.mark(path)
	return nil
}
