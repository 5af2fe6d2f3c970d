package cycle

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/internal/check"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
)

// Board is a machine of the definition with its file in a layer.
type Board struct {
	config.Board
	File       *config.BoardFile // of a layer; with BitBake what it said
	Compatible string            // as distro.Board's; only BitBake says it
}

// ownArchs are the architectures of the board's own packages, as dnf.Options and
// check.Bed take them.
func (b Board) ownArchs() string { return strings.Join(b.forScopes().OwnArchs(), ":") }

// forScopes is the board as distro's rules about scopes see it.
func (b Board) forScopes() distro.Board {
	x := b.File.Board()
	x.Name, x.SoCFamily, x.Compatible = b.Name, b.SoCFamily, b.Compatible
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

// boardsHere are the boards of the definition as it is now, boardsOf as a build had
// them. With BitBake they are what it said when it was asked last.
func (w *Workspace) boardsHere() ([]Board, error) {
	if w.yocto() {
		return w.describedBoards(w.Definition.Series.Name)
	}
	return w.boards(w.hereLayer)
}

func (w *Workspace) boardsOf(id distro.BuildID) ([]Board, error) {
	if w.yocto() {
		return w.describedBoards(string(id))
	}
	return w.boards(w.exportedLayer(id))
}

// layerFile finds a file in the layers; the last layer that has it wins.
func (w *Workspace) layerFile(layer func(config.Layer) string, folder, name string) string {
	path := ""
	for _, l := range w.Definition.EnabledLayers() {
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

// bootPolicy fills in what boots an image of a board and what is asked of it.
func (w *Workspace) bootPolicy(b Board, i check.BootImage) (check.BootImage, error) {
	p := b.Boot
	i.Rig, i.ExpectPorts, i.Login, i.Memory, i.Log, i.Failed = p.Rig, p.Ports, time.Duration(p.Login)*time.Second, p.Memory.Bytes(), p.Log, p.Failed
	if p.Command == "" {
		return i, nil
	}
	i.Command = filepath.Join(w.Dir, filepath.FromSlash(p.Command))
	var err error
	i.Hide, err = w.keyFolders()
	return i, err
}

// keyFolders are those that no program of the distribution's repository may see.
func (w *Workspace) keyFolders() ([]string, error) {
	keys, err := w.Settings.KeysDir(w.Definition.Distribution)
	return []string{keys, keys + "-root"}, err
}

// scopes are those that every index of the series has: noarch, the builder's
// architectures, and those of each board's own packages and its SoC family's.
func (w *Workspace) scopes() []string {
	arches := w.Definition.Builder.Arches
	if len(arches) == 0 && !w.yocto() {
		arches = []string{"x86_64"}
	}
	out := append([]string{"noarch"}, arches...)
	boards, _ := w.boardsHere() // whoever needs the boards themselves reports what is wrong
	for _, b := range boards {
		for _, a := range append([]string{b.File.Arch}, b.forScopes().OwnArchs()...) {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
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

// hasFamilies reports whether a board of the series has an SoC family.
func (w *Workspace) hasFamilies() bool {
	return slices.ContainsFunc(w.Definition.Boards, func(b config.Board) bool { return b.SoCFamily != "" })
}

// deviceScopes names the feeds that a device's .repo file has: with boards, dnf's
// variables stand for its architecture, its SoC family and its machine.
func (w *Workspace) deviceScopes() []string {
	if len(w.Definition.Boards) == 0 {
		return w.scopes()
	}
	own := []string{"noarch", feed.ArchVariable, feed.MachineVariable}
	if w.hasFamilies() {
		own = append(own, feed.SoCVariable)
	}
	return w.withParts(own)
}

// boardVars are the values of those variables on a board. A board without an SoC
// family reads its own feed in the family's place.
func (w *Workspace) boardVars(b Board) map[string]string {
	own := b.forScopes().OwnArchs()
	vars := map[string]string{feed.ArchVariable[1:]: b.File.Arch, feed.MachineVariable[1:]: own[0]}
	if w.hasFamilies() {
		vars[feed.SoCVariable[1:]] = own[len(own)-1]
	}
	return vars
}
