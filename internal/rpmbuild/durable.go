package rpmbuild

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// writeDurable writes a whole file: after it returns the file is there with
// these bytes, before that the old one is; nothing in between.
func writeDurable(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return errs.Wrap(err, "write %s", filepath.Base(path))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return errs.Wrap(err, "write %s", filepath.Base(path))
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return errs.Wrap(err, "write %s", filepath.Base(path))
	}
	return errs.Wrap(syncPath(filepath.Dir(path)), "write %s", filepath.Base(path))
}

// syncPath makes a file's bytes, or a folder's names, durable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func writeJSON(path string, v any) error { return writeDurable(path, distro.CanonicalJSON(v)) }

// readJSON refuses what this version does not know.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return errs.E(errs.Invalid, filepath.Base(path)+" is damaged or of another version", err)
	}
	return nil
}

// removeAll removes a folder that a spec filled: it may hold folders that their
// owner may not write.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	})
	if rerr := os.RemoveAll(dir); rerr != nil {
		return errors.Join(rerr, err)
	}
	return nil
}
