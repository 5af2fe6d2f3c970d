package cycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/check/told"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/layers"
	"slipway/internal/state"
)

// unfetchedName is package bitbake's UnfetchedName.
const unfetchedName = "unfetched.txt"

// missingName and floatingName are package bitbake's MissingName and FloatingName.
const (
	missingName  = "missing-packages.txt"
	floatingName = "floating-sources.txt"
)

// unreadName is the artifact, of class console-log, that says which results of tests of a
// build could not be read, and why.
const unreadName = "unread-results.txt"

// tell gathers the answers that only BitBake's series are asked for.
func (w *Workspace) tell(ctx context.Context, b Build) (map[string]check.Told, error) {
	d, _, err := state.Load[Described](ctx, w.State, kindBoards, string(b.ID))
	if err != nil {
		return nil, err
	}
	out := map[string]check.Told{told.Settings: {Asked: len(d.Boards), Findings: d.Findings}, told.Artifacts: artifactsOf(b, w.Definition)}
	out[told.Layers], err = w.publicLayers(ctx, b.Revision.Layers)
	return out, err
}

// publicLayers asks the address of each remote layer for the commit. A local layer has
// none: its bundle is the release's.
func (w *Workspace) publicLayers(ctx context.Context, pins []distro.LayerPin) (check.Told, error) {
	t := check.Told{Note: "every layer is of this workspace"}
	for _, pin := range pins {
		if pin.URL == "" {
			continue
		}
		t.Asked, t.Note = t.Asked+1, ""
		add := func(id string, level distro.Level, text, cure string) {
			t.Findings = append(t.Findings, distro.Finding{Check: told.Layers, ID: pin.Name + ":" + id, Level: level, Object: pin.Name, Text: text, Cure: cure})
		}
		ok, err := layers.Fetchable(ctx, w.Dir, layers.Layer{Name: pin.Name, URL: pin.URL}, pin.Commit)
		switch {
		case ctx.Err() != nil:
			return t, err
		case err != nil:
			add("silent", distro.Block, fmt.Sprintf("%s does not answer: %v", pin.URL, err), "test again when it does; the release has a bundle of the layer in any case")
		case !ok:
			add("gone", distro.Block, fmt.Sprintf("commit %.12s of layer %s is in no branch and no tag of %s", pin.Commit, pin.Name, pin.URL), "")
		case !layers.Public(pin.URL):
			add("private", distro.Warn, fmt.Sprintf("layer %s comes from %s, which nobody else can reach", pin.Name, pin.URL), "name the public address; the release has a bundle of the layer in any case")
		}
	}
	return t, nil
}

// artifactsOf judges the classes of a build: A1 to A14 of the requirements, each where
// this build should have left it. What a build that took all from its cache does not
// leave (logs, sources, new objects) is none.
func artifactsOf(b Build, d *config.Definition) check.Told {
	count := map[distro.Class]int{}
	imported := b.Revision.Builder.Kind == config.Import
	for _, a := range b.Artifacts {
		// Of an import these are ours, whatever the other CI handed over.
		if !imported || a.Name != databasesName && a.Name != "numbers.json" {
			count[a.Class]++
		}
	}
	for _, p := range b.Packages {
		if p.Kept {
			count[distro.Packages]++
		}
	}
	t := check.Told{}
	miss := func(class distro.Class, object, text string) {
		t.Findings = append(t.Findings, distro.Finding{Check: told.Artifacts, ID: string(class) + ":" + object, Level: distro.Block, Object: object, Text: text})
	}
	must := func(class distro.Class, why string) {
		t.Asked++
		if count[class] == 0 {
			miss(class, "none", fmt.Sprintf("the build has no artifact of class %s: %s", class, why))
		}
	}
	must(distro.Configuration, "its inputs are not known")
	must(distro.ConsoleLog, "nobody can see what it did")
	must(distro.Buildhistory, "INHERIT lacks buildhistory, or it wrote nothing")
	must(distro.PRDatabase, "the next build would give its numbers again")
	must(distro.HashDatabase, "the next build would build all again")
	must(distro.SState, "the next build would build all again")
	must(distro.FeedConfiguration, "devices would not find the feed")
	must(distro.Packages, "there is nothing to publish")
	if ran := slices.ContainsFunc(b.Artifacts, func(a distro.Artifact) bool { return a.Class == distro.TaskLog && a.Name != tasksName }); ran {
		must(distro.SBOM, "neither create-spdx nor vex is inherited, or they wrote nothing")
	}
	t.Asked++
	if slices.ContainsFunc(b.Artifacts, func(a distro.Artifact) bool { return a.Class == distro.ConsoleLog && a.Name == unfetchedName }) {
		miss(distro.Downloads, "unfetched", "not all sources could be fetched: a later build, or a user, may not get them either")
		t.Findings[len(t.Findings)-1].Level = distro.Warn
		t.Findings[len(t.Findings)-1].Cure = fmt.Sprintf("slipway log %s %s says which; correct SRC_URI, or name a mirror", b.ID, unfetchedName)
	}
	t.Asked++
	if slices.ContainsFunc(b.Artifacts, func(a distro.Artifact) bool { return a.Class == distro.ConsoleLog && a.Name == missingName }) {
		miss(distro.Packages, "incomplete", "packages that the build wrote are not in its deploy tree: something removed them")
		t.Findings[len(t.Findings)-1].Cure = fmt.Sprintf("slipway log %s %s names them; reject the candidate, and slipway build", b.ID, missingName)
	}
	t.Asked++
	if slices.ContainsFunc(b.Artifacts, func(a distro.Artifact) bool { return a.Class == distro.ConsoleLog && a.Name == floatingName }) {
		miss(distro.Sources, "autorev", "sources are AUTOREV: the same revision of this distribution builds others tomorrow")
		t.Findings[len(t.Findings)-1].Cure = fmt.Sprintf("slipway log %s %s says which, and what they were; pin SRCREV", b.ID, floatingName)
	}
	if slices.ContainsFunc(b.Artifacts, func(a distro.Artifact) bool { return a.Class == distro.ConsoleLog && a.Name == unreadName }) {
		miss(distro.TestResults, "unread", "the build left results of tests that cannot be read")
		t.Findings[len(t.Findings)-1].Cure = fmt.Sprintf("slipway log %s %s says why; test again, and slipway test %s --results FILE", b.ID, unreadName, b.ID.Candidate())
	}
	for _, board := range d.Boards {
		for _, image := range board.Images {
			t.Asked++
			if !slices.ContainsFunc(b.Artifacts, func(a distro.Artifact) bool {
				return a.Class == distro.Images && strings.HasPrefix(a.Name, board.Name+"/"+image+"-"+board.Name)
			}) {
				miss(distro.Images, board.Name+"/"+image, fmt.Sprintf("image %s of board %s was asked for and is not there", image, board.Name))
			}
		}
	}
	for _, target := range d.EnabledTargets() {
		if strings.Contains(target, ":do_populate_sdk") || strings.HasPrefix(target, "meta-toolchain") {
			must(distro.SDK, target+" was asked for")
		}
	}
	if imported {
		for i, f := range t.Findings {
			if f.Cure == "" {
				t.Findings[i].Cure = "hand it over: slipway build --import DIR --part CLASS=DIR (docs/builder-import.md); a waiver says that it is known"
			}
		}
	}
	return t
}

// AskSettings asks BitBake about the boards of the definition as it is now, in a
// scratch folder, and gives what it found; nothing of it is recorded.
func (w *Workspace) AskSettings(ctx context.Context) ([]distro.Finding, error) {
	lock, err := w.lock(ctx, "work")
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	builder, err := w.Builder(Means{})
	if err != nil {
		return nil, err
	}
	d, ok := builder.(Describer)
	if !ok {
		return nil, nil
	}
	dir := w.internal("work", "config-check")
	if err := removeAll(dir); err != nil {
		return nil, err
	}
	defer removeAll(dir)
	t := w.Talk.Step("fetch the layers")
	rev := distro.Revision{Schema: 1}
	var bad errs.List
	for _, l := range w.Definition.EnabledLayers() {
		pin, err := layers.Inspect(ctx, w.Dir, layerOf(l))
		if err != nil {
			bad = append(bad, err)
			continue
		}
		rev.Layers = append(rev.Layers, pin)
	}
	seed := distro.Seed{Version: distro.NewVersion(w.Definition.Series.Name, 0), Build: "0"}
	if err = bad.Err(); err == nil {
		seed.Layers, err = w.checkOut(ctx, rev, dir+"/layers", func(i int) (string, error) {
			return layers.Repository(ctx, w.Dir, layerOf(w.Definition.EnabledLayers()[i]))
		})
	}
	if err := end(t, err, fmt.Sprintf("%d layers", len(rev.Layers))); err != nil {
		return nil, err
	}
	for _, b := range w.Definition.Boards {
		seed.Boards = append(seed.Boards, distro.Board{Name: b.Name, SoCFamily: b.SoCFamily})
	}
	t = w.Talk.Step("ask BitBake about the boards")
	var findings []distro.Finding
	var boards []distro.Board
	if err = builder.Prepare(ctx, rev, seed, dir+"/build"); err == nil {
		boards, findings, err = d.Describe(ctx, dir+"/build")
	}
	if err == nil {
		err = w.unnamedFamilies(boards).Err()
	}
	if err := end(t, err, fmt.Sprintf("%d boards, %d findings", len(boards), len(findings))); err != nil {
		return nil, err
	}
	public, err := w.publicLayers(ctx, rev.Layers)
	return append(findings, public.Findings...), err
}
