package source

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
)

// Set is a release as a workspace keeps it.
type Set struct {
	Definition *config.Definition // of the release
	Version    distro.Version
	Revision   distro.Revision
	Artifacts  []distro.Artifact
	Packages   []distro.PackageRecord // published, as signed
	Policy     distro.PublicPolicy
	Blobs      store.Blobs
	// Keys are the public keys that may sign the cache, armoured in one text, and their
	// ids as gpg prints them (16 digits, capitals).
	Keys   []byte
	KeyIDs []string
}

func (s Set) artifact(class distro.Class, name string) (distro.Artifact, bool) {
	i := slices.IndexFunc(s.Artifacts, func(a distro.Artifact) bool { return a.Class == class && a.Name == name })
	if i < 0 {
		return distro.Artifact{}, false
	}
	return s.Artifacts[i], true
}

// read gives an artifact's bytes, checked by their digest.
func (s Set) read(ctx context.Context, class distro.Class, name string) ([]byte, error) {
	a, ok := s.artifact(class, name)
	if !ok {
		return nil, errs.E(errs.NotFound, fmt.Sprintf("release %s has no %s %s", s.Version, class, name), errs.Hint("was it built by BitBake? only such a release can be built from source by others"))
	}
	f, err := s.Blobs.Open(ctx, a.Digest)
	if err != nil {
		return nil, errs.Wrap(err, "%s %s", class, name)
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+name, err)
	}
	if got := distro.DigestOf(data); got != a.Digest {
		return nil, errs.E(errs.Denied, fmt.Sprintf("%s %s was changed in the artifact store: it is %s, released was %s", class, name, got.Short(), a.Digest.Short()))
	}
	return data, nil
}

// copyTo writes an artifact to a file, checked by its digest.
func (s Set) copyTo(ctx context.Context, class distro.Class, name, to string) error {
	a, ok := s.artifact(class, name)
	if !ok {
		_, err := s.read(ctx, class, name)
		return err
	}
	from, err := s.Blobs.Open(ctx, a.Digest)
	if err != nil {
		return errs.Wrap(err, "%s %s", class, name)
	}
	defer from.Close()
	if err := write(to, nil, 0o644); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_RDWR, 0)
	if err == nil {
		_, err = io.Copy(f, io.NewSectionReader(from, 0, from.Size()))
		if err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		return errs.E(errs.Unavailable, "write "+to, err)
	}
	defer f.Close()
	got, err := store.Hash(f)
	if err == nil && got != a.Digest {
		err = errs.E(errs.Denied, fmt.Sprintf("%s %s was changed in the artifact store: it is %s, released was %s", class, name, got.Short(), a.Digest.Short()))
	}
	return err
}

// Withheld tells, by a recipe's name, why what is made of it is not handed on; "" is
// handed on. A recipe's licence comes from its packages, or from what the build left
// about its licences (natives have no packages); one of which nothing is known is kept
// in by every rule about licences. builds are the artifacts and packages of all
// releases that the answer is asked about.
func Withheld(ctx context.Context, policy distro.PublicPolicy, blobs store.Blobs, builds ...[]distro.Artifact) (func(recipe string, packages []distro.PackageRecord) string, error) {
	if len(policy.Exclude) == 0 {
		return func(string, []distro.PackageRecord) string { return "" }, nil
	}
	licenses := map[string]string{}
	for _, artifacts := range builds {
		for _, a := range artifacts {
			rest, ok := strings.CutPrefix(a.Name, "licenses/")
			if a.Class != distro.SBOM || !ok || path.Base(rest) != "recipeinfo" {
				continue
			}
			data, err := Set{Artifacts: artifacts, Blobs: blobs}.read(ctx, a.Class, a.Name)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(data)) {
				if v, ok := strings.CutPrefix(strings.TrimSpace(line), "LICENSE: "); ok {
					licenses[path.Base(path.Dir(rest))] = v
				}
			}
		}
	}
	return func(recipe string, packages []distro.PackageRecord) string {
		origins := []distro.Origin{{Recipe: recipe, License: licenses[recipe]}}
		for _, p := range packages {
			if p.SourceName == recipe {
				origins = append(origins, p.Origin())
				if licenses[recipe] == "" {
					origins[0].License = p.License
				}
			}
		}
		return policy.Excluded(origins...)
	}, nil
}

// write makes a file whole; its folder is made.
func write(path string, data []byte, mode os.FileMode) error {
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, data, mode)
	}
	if err == nil {
		err = os.Chmod(path, mode) // whatever the umask is
	}
	if err != nil {
		return errs.E(errs.Unavailable, "write "+path, err)
	}
	return nil
}
