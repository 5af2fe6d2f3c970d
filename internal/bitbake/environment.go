package bitbake

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Environment is what `bitbake -e` says of one board, and the names of the classes
// that its layers have.
type Environment struct {
	Board   string
	Vars    map[string]string            // expanded values
	Flags   map[string]map[string]string // ARCHIVER_MODE[src] -> value, as written (not expanded)
	Classes []string                     // sorted
	Lost    []string                     // inherited by the configuration, and of no layer
}

var (
	reVariable = regexp.MustCompile(`^(?:export )?([A-Za-z0-9_:/.+~-]+)="(.*)$`)
	reHistory  = regexp.MustCompile(`^# \$(\S+)(?: \[\d+ operations\])?$`)
	reOp       = regexp.MustCompile(`^#   (\S+) (\S+:\d+|[^"]*)$`)
	reFlag     = regexp.MustCompile(`^#     \[([^\]]+)\] "(.*)"$`)
)

// ParseEnvironment reads the output of `bitbake -e` (without a recipe). Values may
// span lines, which then end with a backslash; the values of functions are left out.
// Flags are found in the comments on a variable's history: an assignment wins over
// those before it, a weak one ("set?", "default") only where there was none.
// Output without a single variable is Invalid.
func ParseEnvironment(data []byte) (*Environment, error) {
	e := &Environment{Vars: map[string]string{}, Flags: map[string]map[string]string{}}
	var about, op string
	for len(data) > 0 {
		line := nextLine(&data)
		switch {
		case strings.HasPrefix(line, "#"):
			if m := reHistory.FindStringSubmatch(line); m != nil {
				about, op = m[1], ""
			} else if m := reFlag.FindStringSubmatch(line); m != nil && about != "" {
				e.flag(about, m[1], op, m[2])
			} else if m := reOp.FindStringSubmatch(line); m != nil {
				op = m[1]
			}
		case strings.HasSuffix(line, "{"): // a function: it ends with a line of one brace
			for len(data) > 0 && nextLine(&data) != "}" {
				continue
			}
		default:
			m := reVariable.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			value := m[2]
			for strings.HasSuffix(value, `\`) && len(data) > 0 {
				value = strings.TrimSuffix(value, `\`) + "\n" + nextLine(&data)
			}
			e.Vars[m[1]] = strings.ReplaceAll(strings.TrimSuffix(value, `"`), `\"`, `"`)
		}
	}
	if len(e.Vars) == 0 {
		return nil, errs.E(errs.Invalid, "bitbake -e gave no variables")
	}
	e.Board = e.Vars["MACHINE"]
	return e, nil
}

func nextLine(data *[]byte) string {
	line, rest, _ := bytes.Cut(*data, []byte("\n"))
	*data = rest
	return string(line)
}

func (e *Environment) flag(name, flag, op, value string) {
	if e.Flags[name] == nil {
		e.Flags[name] = map[string]string{}
	}
	if _, there := e.Flags[name][flag]; there && (strings.HasSuffix(op, "?") || strings.HasPrefix(op, "default")) {
		return
	}
	e.Flags[name][flag] = value
}

// Words gives a variable's words.
func (e *Environment) Words(name string) []string { return strings.Fields(e.Vars[name]) }

// Has reports whether word is one of a variable's.
func (e *Environment) Has(name, word string) bool { return slices.Contains(e.Words(name), word) }

// tuneArchs are the architectures of the board's tune: what OE-Core has for
// DEFAULTTUNE. PACKAGE_EXTRA_ARCHS itself is more, as BSP layers append the SoC family
// to it; it is taken where the machine has no tune of that name.
func (e *Environment) tuneArchs() []string {
	if tune := e.Words("PACKAGE_EXTRA_ARCHS:tune-" + e.Vars["DEFAULTTUNE"]); len(tune) > 0 {
		return tune
	}
	return e.Words("PACKAGE_EXTRA_ARCHS")
}

// DescribeBoard gives the board as the cycle knows it. Architectures come from
// TUNE_PKGARCH, the tune's PACKAGE_EXTRA_ARCHS and MACHINE_ARCH. An SoC family is what
// PACKAGE_ARCHS has beside the tune's and the machine's: OE-Core knows SOC_FAMILY only
// as an override, and BSP layers add the architecture; wantSoC, of the definition,
// chooses where there are several.
func (e *Environment) DescribeBoard(wantSoC string) (distro.Board, error) {
	b := distro.Board{Name: e.Board, Arch: distro.RPMArch(e.Vars["TUNE_PKGARCH"]), MachineArch: distro.RPMArch(e.Vars["MACHINE_ARCH"])}
	if b.Name == "" || e.Vars["TUNE_PKGARCH"] == "" || e.Vars["MACHINE_ARCH"] == "" {
		return b, errs.E(errs.Invalid, "bitbake -e names no MACHINE, TUNE_PKGARCH or MACHINE_ARCH", errs.Hint("the machine's conf must include a tune"))
	}
	var compatible, soc []string
	tunes := append(e.tuneArchs(), "all", "any", "noarch")
	for _, a := range e.Words("PACKAGE_ARCHS") {
		switch r := distro.RPMArch(a); {
		case r == "noarch" || r == b.Arch || r == b.MachineArch:
		case slices.Contains(tunes, a):
			compatible = append(compatible, r)
		default:
			soc = append(soc, r)
		}
	}
	b.Compatible = strings.Join(compatible, " ")
	switch {
	case wantSoC != "" && slices.Contains(soc, distro.RPMArch(wantSoC)):
		b.SoCFamily = distro.RPMArch(wantSoC)
	case wantSoC != "":
		return b, errs.E(errs.Invalid, fmt.Sprintf("board %s has soc_family %s, and no packages are built for it: PACKAGE_ARCHS is %q", b.Name, wantSoC, e.Vars["PACKAGE_ARCHS"]),
			errs.Hint("take soc_family out, or add the layer that sets PACKAGE_EXTRA_ARCHS and SOC_FAMILY for it"))
	case len(soc) == 1:
		b.SoCFamily = soc[0]
	case len(soc) > 1:
		return b, errs.E(errs.Invalid, fmt.Sprintf("board %s has several architectures between tune and machine: %s", b.Name, strings.Join(soc, ", ")), errs.Hint("name one as soc_family in slipway.yaml"))
	}
	return b, nil
}

// Environment asks BitBake about one board of a prepared build.
func (b *Builder) Environment(ctx context.Context, dir, board string) (*Environment, error) {
	return b.environment(ctx, dir, board, nil)
}

// environment leaves out classes that were found lost for another board, as the same
// conf inherits them.
func (b *Builder) environment(ctx context.Context, dir, board string, lost []string) (*Environment, error) {
	p, err := readPlan(dir)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.Boards, board) {
		return nil, errs.E(errs.NotFound, "board "+board+" in this build")
	}
	var e *Environment
	err = b.serve(ctx, dir, p, func() error {
		for {
			var name string
			if e, name, err = b.ask(ctx, run{b: b, p: p, dir: dir, board: board}, lost); name == "" || slices.Contains(lost, name) {
				break
			}
			lost = append(lost, name)
		}
		if e != nil {
			e.Classes, e.Lost = p.Classes, lost
		}
		return err
	})
	return e, errs.Wrap(err, "ask BitBake about board %s", board)
}

// reLost is what BitBake (2.0 to 2.18) says of a class that the configuration inherits
// and no layer has; without an answer to anything else.
var reLost = regexp.MustCompile(`configuration INHERITs[^:]*: Could not inherit file (?:\S*/)?([^\s/]+)\.bbclass`)

// ask runs bitbake -e. When BitBake ends because of a class that no layer has, it gives
// the class's name beside the error: asked again without it, BitBake says what else is
// wrong.
func (b *Builder) ask(ctx context.Context, r run, lost []string) (_ *Environment, class string, err error) {
	args := []string{"-e"}
	if len(lost) > 0 {
		var text strings.Builder
		for _, name := range lost {
			fmt.Fprintf(&text, "INHERIT:remove = \"%s\"\n", name)
		}
		without := filepath.Join(r.dir, "without-classes.conf") // outside of conf: no part of the build
		if err := writeFile(without, []byte(text.String())); err != nil {
			return nil, "", err
		}
		args = append(args, "-R", without)
	}
	var out, console bytes.Buffer
	r.log, r.out = &console, &out
	if err := r.bitbake(ctx, args); err != nil {
		// On a busy machine BitBake may end before it has said so; then its server's log does,
		// whose end is in the error.
		for _, said := range []string{out.String() + console.String(), err.Error()} {
			if m := reLost.FindAllStringSubmatch(said, -1); m != nil && class == "" {
				class = m[len(m)-1][1]
			}
		}
		// With -e BitBake says what is wrong on its standard output.
		c := &Console{}
		_, _ = c.Write(out.Bytes())
		if said := c.Err(); said != nil && !errs.Is(err, errs.Interrupted) {
			err = said
		}
		return nil, class, err
	}
	e, err := ParseEnvironment(out.Bytes())
	return e, "", err
}

// Describe gives what the boards of a prepared build are, as BitBake says it, in the
// definition's order, and what [Assert] finds in their settings.
func (b *Builder) Describe(ctx context.Context, dir string) ([]distro.Board, []distro.Finding, error) {
	p, err := readPlan(dir)
	if err != nil {
		return nil, nil, err
	}
	var boards []distro.Board
	var all []*Environment
	var lost []string
	var bad errs.List
	for _, want := range p.Seed.Boards {
		e, err := b.environment(ctx, dir, want.Name, slices.Clone(lost))
		if err != nil {
			if bad = append(bad, err); errs.Is(err, errs.Interrupted) {
				break
			}
			continue
		}
		lost = e.Lost
		board, err := e.DescribeBoard(want.SoCFamily)
		if err != nil {
			bad = append(bad, errs.Wrap(err, "board %s", want.Name))
			continue
		}
		boards, all = append(boards, board), append(all, e)
	}
	if err := bad.Err(); err != nil {
		return nil, nil, err
	}
	if err := b.writeVersions(ctx, dir, p, all); err != nil {
		return nil, nil, err
	}
	return boards, Assert(all, b.opt.Servers != nil), nil
}
