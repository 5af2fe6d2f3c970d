package cli

import (
	"context"

	"slipway/internal/bitbake"
	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/distro"
)

// bitbakeBuilder wires BitBake to the workspace's documents and to what it gives.
func bitbakeBuilder(def *config.Definition, settings *config.Settings, m cycle.Means) *bitbake.Builder {
	opt := bitbake.Options{Release: def.Builder.Release, Conf: def.Conf, Targets: def.Targets, Images: map[string][]string{}, User: settings.Build.User, Jobs: settings.Build.Jobs,
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
