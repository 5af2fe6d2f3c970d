package cli

import (
	"context"
	"os"
	"path/filepath"

	"slipway/internal/config"
	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

// rootDir is where init --example keeps the root key: beside the key folder. Whoever
// means it takes the folder away from there.
func rootDir(keyDir string) string { return keyDir + "-root" }

// exampleRoot signs an example's new keys with a root key of its own, so that its
// publication has a keyring as a real one. It gives the folder with the root key, ""
// when the keys have another root already.
func (a *app) exampleRoot(ctx context.Context, def *config.Definition, keyDir string, m keyMaker) (string, error) {
	f := keyring.Folder{Dir: keyDir}
	_, st, err := f.Load(def.Distribution)
	if err != nil || st.Root {
		return "", err
	}
	dir := rootDir(keyDir)
	path := filepath.Join(dir, "root.key")
	root, err := sign.Unlock(path, func() ([]byte, error) { return m.passphrases.open(ctx, "root", path) })
	if errs.Is(err, errs.NotFound) {
		root, err = sign.Generate(sign.Options{Name: def.Title + " root key", Algorithm: m.algorithm, Created: a.clock()})
		if err == nil {
			err = m.store(ctx, root, path, "root", "the root key")
		}
	}
	if err != nil {
		return "", errs.Wrap(err, "root key")
	}
	if err := os.WriteFile(filepath.Join(dir, "root.asc"), root.PublicArmored(), 0o644); err != nil {
		return "", errs.E(errs.Unavailable, "write the public root key", err)
	}
	_, err = f.Sign(ctx, def.Distribution, []sign.Signer{root}, a.clock())
	return dir, err
}
