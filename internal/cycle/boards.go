package cycle

import (
	"os"
	"path/filepath"
	"slices"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
)

// Board is a machine of the definition with its file in a layer.
type Board struct {
	config.Board
	File *config.BoardFile
}

// machineArch is the scope of the board's own packages.
func (b Board) machineArch() string {
	if a := b.File.MachineArch; a != "" {
		return a
	}
	return distro.MachineArch(b.Name)
}

// forScopes is the board as distro's rules about scopes see it.
func (b Board) forScopes() distro.Board {
	x := b.File.Board()
	x.Name, x.SoCFamily = b.Name, b.SoCFamily
	return x
}

// boards reads the files of the definition's boards, in its order, from the
// layers' folders: those of the workspace, or as checked out for a build. Every
// finding comes at once.
func (w *Workspace) boards(layer func(config.Layer) string) ([]Board, error) {
	var out []Board
	var found errs.List
	for _, b := range w.Definition.Boards {
		f, err := config.LoadBoard(w.layerFile(layer, "boards", b.Name+".yaml"))
		if err != nil {
			found = append(found, err)
			continue
		}
		out = append(out, Board{Board: b, File: f})
	}
	return out, found.Err()
}

// layerFile finds a file in the layers; the last layer that has it wins.
func (w *Workspace) layerFile(layer func(config.Layer) string, folder, name string) string {
	path := ""
	for _, l := range w.Definition.Layers {
		candidate := filepath.Join(layer(l), folder, name)
		if _, err := os.Stat(candidate); err == nil || path == "" {
			path = candidate
		}
	}
	return path
}

// hereLayer gives a local layer's folder in the workspace, exportedLayer the one
// that was checked out for a build.
func (w *Workspace) hereLayer(l config.Layer) string { return filepath.Join(w.Dir, l.Path) }

func (w *Workspace) exportedLayer(id distro.BuildID) func(config.Layer) string {
	return func(l config.Layer) string { return filepath.Join(w.work(id), "layers", l.Name) }
}

// scopes are those that every index of the series has: noarch, the builder's
// architectures, and one for each board's machine packages.
func (w *Workspace) scopes() []string {
	arches := w.Definition.Builder.Arches
	if len(arches) == 0 {
		arches = []string{"x86_64"}
	}
	out := append([]string{"noarch"}, arches...)
	boards, _ := w.boards(w.hereLayer) // whoever needs the boards themselves reports what is wrong
	for _, b := range boards {
		out = append(out, b.machineArch())
	}
	return w.withParts(out)
}

// withParts adds the scopes of the parts that have feeds of their own.
func (w *Workspace) withParts(scopes []string) []string {
	out := slices.Clone(scopes)
	for _, part := range w.Definition.Feeds.Separate {
		for _, s := range scopes {
			out = append(out, s+"-"+part)
		}
	}
	return out
}

// deviceScopes names the feeds that a device's .repo file has: with boards, dnf's
// variables stand for its architecture and its machine.
func (w *Workspace) deviceScopes() []string {
	if len(w.Definition.Boards) == 0 {
		return w.scopes()
	}
	return w.withParts([]string{"noarch", feed.ArchVariable, feed.MachineVariable})
}

// boardVars are the values of those variables on a board.
func boardVars(b Board) map[string]string {
	return map[string]string{feed.ArchVariable[1:]: b.File.Arch, feed.MachineVariable[1:]: b.machineArch()}
}
