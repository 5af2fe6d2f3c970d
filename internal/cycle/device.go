package cycle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/keyring"
)

// Device is an install root with the distribution's feed configuration, as a
// device has it: dnf variables say where the feeds are and which snapshot holds.
type Device struct {
	*dnf.Root
	w     *Workspace
	url   string
	board *Board // nil when the series has no boards
}

// NewDevice makes an empty device that reads the publication at url. With boards it
// is one of the first board whose programs this machine runs.
func (w *Workspace) NewDevice(ctx context.Context, dir, url string) (*Device, error) {
	tool, err := w.DNF(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := w.writeKeys(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, err
	}
	d := &Device{w: w, url: url}
	boards, err := w.boardsHere()
	if err != nil {
		return nil, err
	}
	opt := dnf.Options{Repos: w.deviceRepos(keys)}
	for _, b := range boards {
		if b.File.Arch == distro.HostArch() {
			d.board = &b
			opt.Arch, opt.MachineArch = b.File.Arch, b.ownArchs()
			break
		}
	}
	if d.board == nil && len(boards) > 0 {
		return nil, errs.E(errs.Unavailable, "no board of the series runs on this machine, which is "+distro.HostArch())
	}
	opt.Vars = d.vars("current")
	d.Root, err = tool.NewRoot(ctx, filepath.Join(dir, "device"), opt)
	return d, err
}

func (d *Device) vars(snapshot string) map[string]string {
	vars := map[string]string{}
	if d.board != nil {
		vars = d.w.boardVars(*d.board)
	}
	vars["slipway_url"], vars["slipway_snapshot"] = d.url, snapshot
	return vars
}

// Pin makes the device stay at a release; "" unpins it.
func (d *Device) Pin(ctx context.Context, v distro.Version) error {
	if v == "" {
		return d.SetVars(d.vars("current"))
	}
	r, err := d.w.Release(ctx, v)
	if err != nil {
		return err
	}
	return d.SetVars(d.vars(fmt.Sprintf("snapshots/%d", r.Serial)))
}

// repos are all feeds of the series; deviceRepos those that a board's .repo file
// names.
func (w *Workspace) repos(keys []string) []dnf.Repo { return w.feeds(w.scopes(), keys) }

func (w *Workspace) deviceRepos(keys []string) []dnf.Repo { return w.feeds(w.deviceScopes(), keys) }

func (w *Workspace) feeds(scopes, keys []string) []dnf.Repo {
	return w.feedsOf(w.Definition.Series.Name, scopes, keys)
}

// feedsOf are those of a series of the distribution.
func (w *Workspace) feedsOf(series string, scopes, keys []string) []dnf.Repo {
	var out []dnf.Repo
	for _, scope := range scopes {
		id := strings.TrimPrefix(scope, "$slipway_")
		out = append(out, dnf.Repo{ID: w.Definition.Distribution + "-" + id, Name: w.Definition.Title + " " + id, Enabled: true, GPGKeys: keys,
			BaseURL: "$slipway_url/" + series + "/$slipway_snapshot/" + scope})
	}
	return out
}

// revokedKeys writes the revoked package and metadata keys as files and gives their paths.
func (w *Workspace) revokedKeys(dir string) ([]string, error) {
	ring, err := w.Keyring()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, k := range ring.Keys {
		if k.State != keyring.Revoked || k.Role != keyring.Package && k.Role != keyring.Metadata {
			continue
		}
		path := filepath.Join(dir, k.Name()+".asc")
		if err := os.WriteFile(path, []byte(k.PublicKey), 0o644); err != nil {
			return nil, errs.E(errs.Unavailable, "write "+path, err)
		}
		out = append(out, path)
	}
	return out, nil
}

// writeKeys writes the public keys as files and gives their paths.
func (w *Workspace) writeKeys(dir string) ([]string, error) {
	public, err := w.Public()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, errs.E(errs.Unavailable, "make "+dir, err)
	}
	var out []string
	for _, role := range sorted(public) {
		path := filepath.Join(dir, role+".asc")
		if err := os.WriteFile(path, public[role], 0o644); err != nil {
			return nil, errs.E(errs.Unavailable, "write "+path, err)
		}
		out = append(out, path)
	}
	return out, nil
}
