package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"slipway/internal/bitbake"
	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

// bitbakeBuilder wires BitBake to the workspace's documents and to what it gives.
func bitbakeBuilder(def *config.Definition, settings *config.Settings, m cycle.Means) *bitbake.Builder {
	opt := bitbake.Options{Release: def.Builder.Release, Conf: def.Conf, Targets: def.EnabledTargets(), Images: map[string][]string{}, User: settings.Build.User, Jobs: settings.Build.Jobs,
		Path: settings.ToolPath(), Offline: settings.Build.Offline, SState: m.SState, Downloads: m.Downloads, NoSState: m.Fresh}
	for _, b := range def.Boards {
		opt.Images[b.Name] = b.Images
	}
	if m.Serve != nil {
		opt.Servers = func(ctx context.Context, id distro.BuildID) (bitbake.Servers, error) {
			f, err := m.Serve(ctx, id)
			if err != nil {
				return bitbake.Servers{}, err
			}
			return bitbake.Servers{Hash: f.HashServer, PR: f.PRServer, Close: f.Close}, nil
		}
	}
	return bitbake.New(opt)
}

// importer wires what another CI built; without a folder of it only logs are asked for.
func importer(def *config.Definition, m cycle.Means) *bitbake.Importer {
	opt := bitbake.ImportOptions{Release: def.Builder.Release, Images: map[string][]string{}}
	for _, b := range def.Boards {
		opt.Images[b.Name] = b.Images
	}
	if m.Import != nil {
		opt.Dir, opt.Parts = m.Import.Dir, m.Import.Parts
	}
	return bitbake.NewImporter(opt)
}

// askSettings prints what BitBake's configuration lacks; documents: BitBake is not asked.
func (a *app) askSettings(ctx context.Context, documents bool) error {
	good := func() error {
		return a.print(map[string]any{"findings": []distro.Finding{}}, func(out io.Writer) { fmt.Fprintln(out, "slipway.yaml and settings.yaml are in order") })
	}
	if def, _, err := load(a.dir); err != nil || documents || def.Builder.Kind != config.BitBake {
		return good() // errors of the documents were told before
	}
	return a.with(ctx, write, func(ctx context.Context, w *cycle.Workspace) error {
		findings, err := w.AskSettings(ctx)
		if err != nil {
			return err
		}
		if len(findings) == 0 {
			return good()
		}
		blocks := 0
		err = a.print(map[string]any{"findings": findings}, func(out io.Writer) {
			for _, f := range findings {
				fmt.Fprintf(out, "%s  %s", f.Level, f.Key())
				if len(f.Boards) > 0 {
					fmt.Fprintf(out, " (%s)", strings.Join(f.Boards, ", "))
				}
				fmt.Fprintf(out, "\n  %s\n  cure: %s\n", f.Text, f.Cure)
			}
		})
		for _, f := range findings {
			if f.Level == distro.Block {
				blocks++
			}
		}
		if err != nil || blocks == 0 {
			return err
		}
		return quietly{errs.E(errs.Invalid, fmt.Sprintf("%d findings stop a build", blocks))}
	})
}
