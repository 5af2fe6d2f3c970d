package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/errs"
	"slipway/internal/qemu"
)

type bootFlags struct {
	board, rig, key string
	port, memory    int
	verbose, keep   bool
	within          time.Duration
}

func (a *app) bootCmd() *cobra.Command {
	var f bootFlags
	c := &cobra.Command{Use: "boot FILE", Short: "start an image under QEMU, and say how to log in", Args: cobra.ExactArgs(1),
		Example: "  slipway boot light.img\n  slipway boot light.img --key ~/.ssh/id_ed25519.pub --ssh-port 2222\n  slipway boot light.img --board qemuarm64 -v",
		Long: `Boot starts an image (a raw disk) as a new device and waits until its ssh server
listens. Then it prints the line to log in with: by the key of --key, which the
device takes as its owner's, else by the password that the device shows once on
its console. Ctrl-C, or poweroff in the device, ends it.

The device writes to a copy that is gone afterwards; with --in-place it writes
to FILE itself. The rig is the board's, or what the image's kernel is for.`,
		RunE: func(c *cobra.Command, args []string) error { return a.boot(c.Context(), args[0], f) }}
	fl := c.Flags()
	fl.StringVar(&f.board, "board", "", "a board of the workspace: its rig")
	fl.StringVar(&f.rig, "rig", "", "the rig: "+strings.Join(qemu.Rigs(), ", "))
	fl.StringVar(&f.key, "key", "", "ssh key of the device's owner, public or private; a device that is claimed already keeps its own")
	fl.IntVar(&f.port, "ssh-port", 0, "port of this machine's loopback for ssh (0: a free one)")
	fl.IntVar(&f.memory, "memory", 512, "memory of the device, MiB")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "show the serial console")
	fl.BoolVar(&f.keep, "in-place", false, "let the device write to FILE")
	fl.DurationVar(&f.within, "within", 2*time.Minute, "how long the device may take to come up")
	return c
}

// booted is what boot prints once the device is up.
type booted struct {
	Image    string  `json:"image"`
	Rig      string  `json:"rig"`
	Accel    string  `json:"accel"`
	Kernel   string  `json:"kernel"`
	Port     int     `json:"ssh_port"`
	SSH      string  `json:"ssh"` // the line to type
	Password string  `json:"password,omitempty"`
	Seconds  float64 `json:"seconds"` // to the ready line
	Memory   int64   `json:"memory"`  // of QEMU, bytes
	Log      string  `json:"log"`
}

func (a *app) boot(ctx context.Context, file string, f bootFlags) error {
	rig, err := a.bootRig(file, f)
	if err != nil {
		return err
	}
	o := qemu.Options{Name: filepath.Base(file), Image: file, InPlace: f.keep, Memory: f.memory, SSHPort: f.port, Within: f.within}
	login, keyFile := qemu.Login{}, ""
	if f.key != "" {
		var public []byte
		if login.Key, public, keyFile, err = readSSHKey(f.key); err != nil {
			return err
		}
		o.FwCfg = map[string][]byte{qemu.SeedKey: public}
	}
	if f.memory < 64 {
		return errs.E(errs.Invalid, fmt.Sprintf("--memory %d: a device needs 64 MiB at least", f.memory))
	}
	if f.verbose {
		o.Console = a.Err
	}
	t := a.talk().Step("boot " + o.Name)
	// The device outlives the first Ctrl-C, so that it can be ended properly.
	guest, err := rig.Boot(context.WithoutCancel(ctx), o)
	if err != nil {
		t.Failed("")
		return err
	}
	defer guest.Kill()
	if err := guest.WaitReady(ctx); err != nil {
		t.Failed("")
		return err
	}
	accel, why := guest.Accel()
	t.Done(fmt.Sprintf("%s: login after %.1f s; %s: %s", rig.Name, guest.TimeToReady().Seconds(), accel, why))
	b := booted{Image: file, Rig: rig.Name, Accel: accel, Kernel: guest.Kernel(), Port: guest.Port(), Password: guest.ClaimPassword(),
		Seconds: guest.TimeToReady().Seconds(), Memory: guest.Memory(), Log: guest.Log()}
	b.SSH = fmt.Sprintf("ssh -p %d -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no root@127.0.0.1", b.Port)
	if keyFile != "" {
		b.SSH = strings.Replace(b.SSH, "ssh ", "ssh -i "+keyFile+" ", 1)
	}
	if err := a.print(b, func(out io.Writer) {
		fmt.Fprintln(out, b.SSH)
		if b.Password != "" {
			fmt.Fprintf(out, "password: %s\n", b.Password)
		}
		fmt.Fprintf(out, "serial console: %s\nCtrl-C, or poweroff in the device, ends it\n", b.Log)
	}); err != nil {
		return err
	}
	select {
	case <-guest.Done():
		fmt.Fprintln(a.Err, "the device has switched itself off")
		return nil
	case <-ctx.Done():
	}
	return a.endBoot(context.WithoutCancel(ctx), guest, login)
}

// endBoot is what the first Ctrl-C does. A key or password of the device's owner
// is used to ask it; without one there is the power button.
func (a *app) endBoot(ctx context.Context, guest *qemu.Guest, login qemu.Login) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	if login.Key == nil {
		login.Password = guest.ClaimPassword()
	}
	if login.Key != nil || login.Password != "" {
		once, stop := context.WithTimeout(ctx, 5*time.Second)
		if s, err := guest.SSH(once, login); err == nil {
			s.Close()
		}
		stop()
	}
	fmt.Fprintln(a.Err, "switching the device off")
	return guest.PowerOff(ctx)
}

func (a *app) bootRig(file string, f bootFlags) (*qemu.Rig, error) {
	switch {
	case f.rig != "" && f.board != "":
		return nil, errs.E(errs.Invalid, "--board and --rig both name a rig", errs.Hint("give one of them"))
	case f.rig != "":
		return qemu.Find(f.rig)
	case f.board != "":
		dir, err := filepath.Abs(a.dir)
		if err != nil {
			return nil, err
		}
		def, _, err := load(dir)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, b := range def.Boards {
			if names = append(names, b.Name); b.Name != f.board {
				continue
			}
			if b.Boot.Rig == "" {
				return nil, errs.E(errs.Invalid, fmt.Sprintf("board %s has no rig", f.board), errs.Hintf("boot: {rig: ...} of the board in slipway.yaml, or --rig %s", strings.Join(qemu.Rigs(), " or ")))
			}
			return qemu.Find(b.Boot.Rig)
		}
		return nil, errs.E(errs.NotFound, fmt.Sprintf("board %q", f.board), errs.Hintf("the boards are %v", names))
	}
	k, err := qemu.ImageKernel(file)
	if err != nil {
		if !strings.Contains(err.Error(), file) {
			err = errs.Wrap(err, "image %s", file)
		}
		return nil, err
	}
	if name := qemu.RigOf(k.Image); name != "" {
		return qemu.Find(name)
	}
	return nil, errs.E(errs.Invalid, fmt.Sprintf("image %s: its kernel %s is for no rig that is known", file, k.Name), errs.Hintf("--rig %s", strings.Join(qemu.Rigs(), " or ")))
}

// readSSHKey reads a private or public key; key is nil for a public one. file is
// what ssh -i wants.
func readSSHKey(path string) (key *qemu.Key, public []byte, file string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, "", errs.E(errs.NotFound, "ssh key "+path, err)
	}
	if key, err = qemu.ParseKey(b); err == nil {
		return key, key.Authorized(), path, nil
	}
	if public, err = qemu.ParseAuthorized(b); err != nil {
		return nil, nil, "", errs.E(errs.Invalid, "ssh key "+path+" is neither a public key nor a private one without a passphrase", errs.Hint("ssh-keygen -t ed25519 makes a pair; give the .pub file"))
	}
	return nil, public, strings.TrimSuffix(path, ".pub"), nil
}
