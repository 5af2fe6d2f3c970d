// Package sstate signs BitBake's build cache and checks its signatures.
//
// An SSTATE_DIR holds archives, sstate:<...>_<task>.tar.zst (.tgz before kirkstone).
// With SSTATE_VERIFY_SIG = "1" BitBake takes an archive only when <archive>.sig beside it
// is a detached, binary OpenPGP signature by a key that its gpg knows, or that
// SSTATE_VALID_SIGS names (sstate.bbclass, lib/oe/gpg_sign.py). [Sign] writes those files,
// [Verify] reads them as a stranger would, and names everything that BitBake would
// not take. The .siginfo files beside the archives have no signature: BitBake
// checks none.
package sstate

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway/internal/errs"
	"slipway/internal/sign"
)

// Signer makes the signatures: a key, or the signer process for the role sstate.
type Signer interface {
	SignMidstate(ctx context.Context, m sign.Midstate, at time.Time) ([]byte, error)
}

// Check tells whether sig, a binary detached signature, is a trusted one over
// message; else why not. keyring.Keyring.Verify is one, for the role sstate.
type Check func(message io.Reader, sig []byte) error

// Reason is what is wrong with an archive.
type Reason string

const (
	Missing  Reason = "missing"  // it has no signature
	Tampered Reason = "tampered" // its bytes are not those that were signed
	Foreign  Reason = "foreign"  // signed by a key that is not trusted
	Bad      Reason = "bad"      // the signature cannot be read, or does not count for another reason
	Orphan   Reason = "orphan"   // a signature without its archive
)

// Finding is one archive, or signature, that BitBake would not take.
type Finding struct {
	Path   string `json:"path"` // below the folder
	Reason Reason `json:"reason"`
	Detail string `json:"detail"`
}

// Report is what Sign did or Verify found.
type Report struct {
	Archives int       `json:"archives"`         // that were looked at
	Signed   int       `json:"signed,omitempty"` // by this run
	Findings []Finding `json:"findings,omitempty"`
}

// Archive tells by its name whether a file is one.
func Archive(name string) bool {
	return strings.HasPrefix(name, "sstate:") && (strings.HasSuffix(name, ".tar.zst") || strings.HasSuffix(name, ".tgz"))
}

// walk calls f for every regular file or link to one below dir, several at once.
func walk(ctx context.Context, dir string, jobs int, want func(name string) bool, f func(path string) error) error {
	if st, err := os.Stat(dir); err != nil {
		return errs.E(errs.NotFound, "no folder "+dir, err, errs.Hint("name the SSTATE_DIR"))
	} else if !st.IsDir() {
		return errs.E(errs.Invalid, dir+" is no folder", errs.Hint("name the SSTATE_DIR"))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	paths := make(chan string)
	var wg sync.WaitGroup
	for range max(jobs, 1) {
		wg.Go(func() {
			for path := range paths {
				if err := f(path); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return errs.E(errs.Unavailable, "read "+path, err)
		}
		if d.IsDir() || !want(d.Name()) {
			return nil
		}
		select {
		case paths <- path:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(paths)
	wg.Wait()
	if err == nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	return err
}

// Sign signs every archive of a cache that has no trusted signature over its
// bytes yet, dated at, with jobs archives at once: a second run signs nothing. The
// signature gets its name when it is whole; an archive that BitBake writes at the same
// time may be left for the next run. A signature by a stranger, or one that does not
// fit, is a finding and stays: signing what somebody else put there would launder it.
// Links are skipped: what they lead to belongs to another cache.
func Sign(ctx context.Context, dir string, jobs int, s Signer, trusted Check, at time.Time) (Report, error) {
	var mu sync.Mutex
	var rep Report
	err := walk(ctx, dir, jobs, Archive, func(path string) error {
		if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
			return nil
		}
		signed := false
		found, err := examine(dir, path, trusted)
		if err == nil && found != nil && found.Reason == Missing {
			signed, found = true, nil
			err = signOne(ctx, path, s, at)
		}
		mu.Lock()
		defer mu.Unlock()
		rep.Archives++
		if signed && err == nil {
			rep.Signed++
		}
		if found != nil {
			rep.Findings = append(rep.Findings, *found)
		}
		return err
	})
	return rep.sorted(), err
}

func signOne(ctx context.Context, path string, s Signer, at time.Time) error {
	f, err := os.Open(path)
	if err != nil {
		return errs.E(errs.Unavailable, "read "+path, err)
	}
	defer f.Close()
	m, err := sign.Hash(ctx, f)
	if err != nil {
		return errs.Wrap(err, "read %s", path)
	}
	sig, err := s.SignMidstate(ctx, m, at)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".slipway-*.sig")
	if err != nil {
		return errs.E(errs.Unavailable, "sign "+path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(sig)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path+".sig")
	}
	if err != nil {
		return errs.E(errs.Unavailable, "write "+path+".sig", err)
	}
	return nil
}

// Verify checks every archive of a cache, and every signature without one. All
// findings are in the report, sorted; an error is only what kept it from looking.
func Verify(ctx context.Context, dir string, jobs int, trusted Check) (Report, error) {
	var mu sync.Mutex
	var rep Report
	want := func(name string) bool { return Archive(name) || Archive(strings.TrimSuffix(name, ".sig")) }
	err := walk(ctx, dir, jobs, want, func(path string) error {
		var found *Finding
		var err error
		of := strings.TrimSuffix(path, ".sig")
		if of != path {
			if _, err := os.Stat(of); os.IsNotExist(err) {
				found = finding(dir, path, Orphan, "it signs an archive that is not there")
			}
		} else {
			found, err = examine(dir, path, trusted)
		}
		mu.Lock()
		defer mu.Unlock()
		if of == path {
			rep.Archives++
		}
		if found != nil {
			rep.Findings = append(rep.Findings, *found)
		}
		return err
	})
	return rep.sorted(), err
}

func (r Report) sorted() Report {
	slices.SortFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Path, b.Path) })
	return r
}

func finding(dir, path string, r Reason, detail string) *Finding {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		rel = path
	}
	return &Finding{rel, r, detail}
}

// maxSignature is far above a detached signature of a few keys, in bytes.
const maxSignature = 64 << 10

// examine gives what is wrong with one archive, nil when it is as signed.
func examine(dir, path string, trusted Check) (*Finding, error) {
	sf, err := os.Open(path + ".sig")
	if os.IsNotExist(err) {
		return finding(dir, path, Missing, "it has no signature"), nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+path+".sig", err)
	}
	defer sf.Close()
	sig, err := io.ReadAll(io.LimitReader(sf, maxSignature))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+path+".sig", err)
	}
	if bytes.HasPrefix(sig, []byte("-----BEGIN PGP")) { // gpg takes both, BitBake writes binary
		if sig, err = sign.Dearmor(sig); err != nil {
			return finding(dir, path, Bad, err.Error()), nil
		}
	}
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return finding(dir, path, Bad, "a link that leads nowhere"), nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+path, err)
	}
	defer f.Close()
	err = trusted(f, sig)
	switch {
	case err == nil:
		return nil, nil
	case !errs.Is(err, errs.Denied):
		return nil, errs.Wrap(err, "check %s", path)
	case strings.Contains(err.Error(), "bad signature"):
		return finding(dir, path, Tampered, err.Error()), nil
	case strings.Contains(err.Error(), "unknown key"), strings.Contains(err.Error(), "is not for "):
		return finding(dir, path, Foreign, err.Error()), nil
	}
	return finding(dir, path, Bad, err.Error()), nil
}

// Err is the report's findings as one error, Denied; nil when there are none.
func (r Report) Err() error {
	var found errs.List
	for _, x := range r.Findings {
		found = append(found, errs.E(errs.Denied, fmt.Sprintf("%s: %s: %s", x.Path, x.Reason, x.Detail)))
	}
	return found.Err()
}
