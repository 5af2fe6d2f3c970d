package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/bitbake"
	"slipway/internal/component"
	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/ui"
)

func (a *app) componentCmd() *cobra.Command {
	return group("component", "optional parts of the distribution: list, enable; the policy for adding a layer: check", "  slipway component list\n  slipway component enable desktop-xfce\n  slipway component check desktop-xfce",
		a.componentListCmd(), a.componentEnableCmd(), a.componentCheckCmd())
}

// componentRow is one line of component list.
type componentRow struct {
	Name    string   `json:"name"`
	Status  string   `json:"status"` // enabled, disabled, known
	Layers  []string `json:"layers"`
	Targets []string `json:"targets"`
}

func (a *app) componentListCmd() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "list the components of slipway.yaml and those that every definition can enable", Args: cobra.NoArgs,
		Example: "  slipway component list",
		RunE: func(c *cobra.Command, _ []string) error {
			def, _, err := load(a.dir)
			if err != nil {
				return err
			}
			rows := []componentRow{}
			for _, x := range def.Components {
				r := componentRow{Name: x.Name, Status: map[bool]string{true: "enabled", false: "disabled"}[x.Enabled], Layers: []string{}, Targets: append([]string{}, x.Targets...)}
				for _, l := range x.Layers {
					r.Layers = append(r.Layers, l.Name)
				}
				rows = append(rows, r)
			}
			for _, n := range component.Names() {
				if _, ok := def.Component(n); !ok {
					rows = append(rows, componentRow{Name: n, Status: "known", Layers: []string{}, Targets: []string{}})
				}
			}
			return a.print(rows, func(out io.Writer) {
				table := [][]string{}
				for _, r := range rows {
					table = append(table, []string{r.Name, r.Status, strings.Join(r.Layers, " "), strings.Join(r.Targets, " ")})
				}
				ui.Table(out, []string{"COMPONENT", "STATUS", "LAYERS", "TARGETS"}, table)
			})
		}}
}

func (a *app) componentEnableCmd() *cobra.Command {
	return &cobra.Command{Use: "enable NAME", Short: "turn a component on in slipway.yaml, which stays as it is otherwise", Args: cobra.ExactArgs(1),
		Example: "  slipway component enable desktop-xfce",
		Long: `Enable turns on a component that slipway.yaml has, or adds a known one: desktop-xfce,
desktop-gnome, desktop-kde. Comments and all else in the file stay as they are. The
next build takes its layers behind the others, and its targets. Look at the change,
ask slipway component check, and commit it.`,
		RunE: func(c *cobra.Command, args []string) error {
			def, _, err := load(a.dir)
			if err != nil {
				return err
			}
			path := filepath.Join(a.dir, "slipway.yaml")
			text, err := os.ReadFile(path)
			if err != nil {
				return errs.E(errs.Unavailable, "read "+path, err)
			}
			changed, err := component.Enable(def, text, args[0])
			if err != nil {
				return err
			}
			now, err := config.ParseDefinition("slipway.yaml", changed)
			if err != nil {
				return err
			}
			already := string(changed) == string(text)
			if !already {
				if err := replaceFile(path, changed); err != nil {
					return err
				}
			}
			x, _ := now.Component(args[0])
			var names []string
			for _, l := range x.Layers {
				names = append(names, l.Name)
			}
			return a.print(map[string]any{"component": args[0], "changed": !already, "layers": append([]string{}, names...), "targets": append([]string{}, x.Targets...)}, func(out io.Writer) {
				if already {
					fmt.Fprintf(out, "component %s is enabled already\n", args[0])
					return
				}
				fmt.Fprintf(out, "component %s is enabled: layers %s; targets %s\nnext: slipway component check %s, and commit slipway.yaml\n", args[0], strings.Join(names, ", "), strings.Join(x.Targets, ", "), args[0])
			})
		}}
}

// replaceFile writes a file whole, or leaves it as it was; its mode stays.
func replaceFile(path string, data []byte) error {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".slipway-*")
	if err == nil {
		defer os.Remove(f.Name())
		_, err = f.Write(data)
		if err == nil {
			err = f.Chmod(mode)
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
	}
	if err != nil {
		return errs.E(errs.Unavailable, "write "+path, err)
	}
	return nil
}

func (a *app) componentCheckCmd() *cobra.Command {
	var tool bool
	c := &cobra.Command{Use: "check [NAME or DIR]...", Short: "ask layers by the policy for adding one", Args: cobra.ArbitraryArgs,
		Example: "  slipway component check desktop-xfce\n  slipway component check ./layers/meta-halyard\n  slipway component check --yocto-check-layer ./layers/meta-halyard",
		Long: `Check asks each layer of a component, or a layer in a folder, all questions of
docs/policy-layers.md, and prints every finding with its place; without a name, the
layers of the definition and of the enabled components. Layers of other
repositories are fetched. A finding that blocks ends with exit code 7.

With --yocto-check-layer, in a build's environment, OE-Core's program of that name
is run on it too.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				return w.LayersOf(ctx, args, func(q []component.Question) error { return a.checkLayers(ctx, q, tool) })
			})
		}}
	c.Flags().BoolVar(&tool, "yocto-check-layer", false, "run OE-Core's yocto-check-layer, too")
	return c
}

// checkedLayer is the result for one layer.
type checkedLayer struct {
	Layer    string           `json:"layer"`
	Findings []distro.Finding `json:"findings"`
}

func (a *app) checkLayers(ctx context.Context, questions []component.Question, tool bool) error {
	all := []checkedLayer{}
	blocks := 0
	for _, q := range questions {
		found, err := component.CheckLayer(ctx, q)
		if err != nil {
			return errs.Wrap(err, "layer %s", q.Name)
		}
		if tool {
			said, err := bitbake.CheckLayer(ctx, q.Dir)
			if err != nil {
				return errs.Wrap(err, "layer %s", q.Name)
			}
			for _, s := range said {
				found = append(found, distro.Finding{Check: component.PolicyID, ID: q.Name + ":yocto-check-layer", Level: distro.Block, Object: "yocto-check-layer", Text: s, Cure: "yocto-check-layer says more"})
			}
		}
		for _, f := range found {
			if f.Level == distro.Block {
				blocks++
			}
		}
		all = append(all, checkedLayer{q.Name, append([]distro.Finding{}, found...)})
	}
	slices.SortStableFunc(all, func(x, y checkedLayer) int { return strings.Compare(x.Layer, y.Layer) })
	err := a.print(all, func(out io.Writer) {
		for _, l := range all {
			if len(l.Findings) == 0 {
				fmt.Fprintf(out, "ok     %s\n", l.Layer)
			}
			for _, f := range l.Findings {
				fmt.Fprintf(out, "%-5s  %s  %s: %s\n", f.Level, l.Layer, f.Object, f.Text)
				if f.Cure != "" {
					fmt.Fprintf(out, "       cure: %s\n", f.Cure)
				}
			}
		}
	})
	if err != nil || blocks == 0 {
		return err
	}
	return quietly{errs.E(errs.Refused, fmt.Sprintf("%d findings stand against these layers", blocks))}
}
