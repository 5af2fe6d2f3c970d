package device

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"slipway/internal/errs"
)

const usage = `slipway-device keeps this device at one snapshot of its distribution.

  slipway-device status [--json]     which release, what is newer, is a reboot needed, when support ends
  slipway-device check [--json]      is the feed genuine and alive? changes nothing
  slipway-device update [--dry-run] [--security] [--allow-erasing] [--json]
                                     go to the newest snapshot, or to the pinned one
  slipway-device resume              finish or abandon an interrupted update; run it at boot
  slipway-device pin VERSION|DATE    stay there; then: slipway-device update
  slipway-device unpin               follow the newest again; then: slipway-device update
  slipway-device --version

  --root DIR comes first, and works on the device whose file system is there.

EXIT STATUS
  0 done   1 failed, or the feed cannot be reached   2 usage or configuration
  4 refused otherwise   5 not found   6 another slipway-device is at work, or an update is unfinished
  41 replayed: an old copy of the feed    42 frozen: the pointer has expired
  43 a signature or a digest does not fit 44 the clock is wrong   45 another distribution's feed
`

// Version is what --version says; the linker sets it.
var Version = "development"

// Stdio are the streams of a command.
type Stdio struct{ Out, Err io.Writer }

// Main runs the command and gives its exit code.
func Main(ctx context.Context, args []string, std Stdio, o Options) int {
	err := command(ctx, args, std, o)
	if err == nil {
		return 0
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(std.Out, usage)
		return 0
	}
	for l := range strings.Lines(err.Error()) {
		fmt.Fprintln(std.Err, "error:", strings.TrimSpace(l))
	}
	if r := Reason(err); r != "" {
		fmt.Fprintln(std.Err, "reason:", r)
	}
	for _, h := range errs.Hints(err) {
		fmt.Fprintln(std.Err, "hint:", h)
	}
	return ExitCode(err)
}

func command(ctx context.Context, args []string, std Stdio, o Options) error {
	global := flags("slipway-device")
	global.StringVar(&o.Root, "root", o.Root, "")
	version := global.Bool("version", false, "")
	if err := parse(global, args); err != nil {
		return err
	}
	if *version {
		fmt.Fprintln(std.Out, "slipway-device", Version)
		return nil
	}
	if global.NArg() == 0 {
		return flag.ErrHelp
	}
	name, args := global.Arg(0), global.Args()[1:]
	f := flags(name)
	var asJSON bool
	var u UpdateOptions
	operands := 0
	switch name {
	case "status", "check":
		f.BoolVar(&asJSON, "json", false, "")
	case "update":
		f.BoolVar(&asJSON, "json", false, "")
		f.BoolVar(&u.DryRun, "dry-run", false, "")
		f.BoolVar(&u.Security, "security", false, "")
		f.BoolVar(&u.Erasing, "allow-erasing", false, "")
	case "pin":
		operands = 1
	case "resume", "unpin":
	case "help":
		return flag.ErrHelp
	default:
		return errs.E(errs.Invalid, "no command "+name, errs.Hint("slipway-device help"))
	}
	if err := parse(f, args); err != nil {
		return err
	}
	if f.NArg() != operands {
		return errs.E(errs.Invalid, fmt.Sprintf("%s takes %d operands, not %d", name, operands, f.NArg()), errs.Hint("slipway-device help"))
	}
	if o.Talk == nil {
		o.Talk = std.Err
	}
	d, err := Open(o)
	if err != nil {
		return err
	}
	show := func(v any, text func(io.Writer)) {
		if asJSON {
			e := json.NewEncoder(std.Out)
			e.SetIndent("", "  ")
			_ = e.Encode(v)
			return
		}
		text(std.Out)
	}
	switch name {
	case "status":
		s, err := d.Status(ctx)
		if err == nil {
			show(s, s.write)
		}
		return err
	case "check":
		c, err := d.Check(ctx)
		if err != nil {
			if asJSON {
				show(map[string]any{"ok": false, "reason": Reason(err), "problem": err.Error()}, nil)
			}
			return err
		}
		show(map[string]any{"ok": true, "pointer": c.Pointer}, func(w io.Writer) {
			fmt.Fprintf(w, "good: serial %d, release %s, signed %s, good till %s\n", c.Pointer.Serial, c.Pointer.Release, date(c.Pointer.Issued), date(c.Pointer.Expires))
		})
		return nil
	case "update", "resume":
		var r Update
		if name == "update" {
			r, err = d.Update(ctx, u)
		} else {
			r, err = d.Resume(ctx)
		}
		if err == nil {
			show(r, func(w io.Writer) { r.write(w, u.DryRun) })
		}
		return err
	case "pin":
		p, err := d.Pin(ctx, f.Arg(0))
		if err == nil {
			fmt.Fprintf(std.Out, "pinned to serial %d, release %s of %s; to go there: slipway-device update\n", p.Serial, p.Release, date(p.At))
		}
		return err
	}
	if err := d.Unpin(ctx); err != nil {
		return err
	}
	fmt.Fprintln(std.Out, "follows the newest snapshot; to go there: slipway-device update")
	return nil
}

func flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	return f
}

func parse(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return errs.E(errs.Invalid, f.Name()+": "+err.Error(), errs.Hint("slipway-device help"))
}
