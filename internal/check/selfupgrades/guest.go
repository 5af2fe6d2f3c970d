package selfupgrades

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"slipway/internal/check"
	"slipway/internal/errs"
	"slipway/internal/qemu"
	"slipway/internal/testresults"
)

// guestTime is what a program that tests a guest may take.
const guestTime = 30 * time.Minute

const maxFailed = 100 // findings of one program

// guestTests runs the programs of checks/guest on this machine, each with the address of
// the upgraded guest and the key that lets it in: oe-test runtime of an exported build,
// say. What they write as testresults.json is kept; what failed blocks. One that does not
// come to its end, or leaves nothing and does not end with 0, has failed as a whole.
func (d *device) guestTests(ctx context.Context) error {
	if d.bed.GuestTests == "" {
		return nil
	}
	entries, err := os.ReadDir(d.bed.GuestTests)
	if err != nil {
		return errs.E(errs.Unavailable, "the tests of a guest", err)
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0 || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := d.guestTest(ctx, e.Name(), net.JoinHostPort("127.0.0.1", strconv.Itoa(d.guest.Port()))); err != nil {
			return err
		}
	}
	return nil
}

// guestTest runs one program against the ssh server at target.
func (d *device) guestTest(ctx context.Context, file, target string) error {
	name := strings.TrimSuffix(file, filepath.Ext(file))
	dir, err := os.MkdirTemp(d.bed.Dir, "guest-test-")
	if err != nil {
		return errs.E(errs.Unavailable, "a folder for the tests of a guest", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, d.key.Private(), 0o600); err != nil {
		return errs.E(errs.Unavailable, "the key to the guest", err)
	}
	within := guestTime
	if d.bed.TestTime > 0 {
		within = d.bed.TestTime
	}
	d.note("checks/guest/%s tests the upgraded device", file)
	d.asked++
	said, ended, ran := qemu.Tool{Path: filepath.Join(d.bed.GuestTests, file), Dir: dir, Hide: d.bed.Hide, Within: within, Env: []string{"HOME=" + dir, "SLIPWAY_TARGET=" + target,
		"SLIPWAY_KEY=" + key, "SLIPWAY_RESULTS=" + dir, "SLIPWAY_BOARD=" + d.of.Board, "SLIPWAY_IMAGE=" + d.of.Image, "SLIPWAY_VERSION=" + string(d.bed.Version)}}.Run(ctx)
	if ctx.Err() != nil || errs.Is(ran, errs.Unavailable) {
		return ran
	}
	d.note("it ends: %v\n%s", ran, said)
	evidence := check.Tail(said, 12)
	whole := func(format string, args ...any) {
		d.find("up:tests:"+name, "read what it says in the transcript; run it by hand against slipway boot FILE", "checks/guest/"+file+" "+format, args...).Evidence = evidence
	}
	f, err := os.Open(filepath.Join(dir, "testresults.json"))
	switch {
	case !ended:
		whole("did not end within %v", within)
		return nil
	case errors.Is(err, os.ErrNotExist):
		if ran != nil {
			whole("leaves no testresults.json: %v", ran)
		}
		return nil
	case err != nil:
		return errs.E(errs.Unavailable, "read the results of checks/guest/"+file, err)
	}
	runs, err := testresults.Read(f, "testresults.json of checks/guest/"+file)
	_ = f.Close()
	if err != nil {
		whole("leaves results that cannot be read: %v", err)
		return nil
	}
	var text strings.Builder
	if err := testresults.Write(&text, runs); err != nil {
		return err
	}
	kept, err := d.bed.Transcript(d.of.Board+"-"+d.of.Image+"-"+name+"-testresults.json", text.String())
	if err != nil {
		return err
	}
	d.files = append(d.files, kept)
	failed, tests := 0, 0
	for _, r := range runs {
		for _, t := range r.All() {
			tests++
			d.asked++
			if testresults.OutcomeOf(t.Status) != testresults.Fail {
				continue
			}
			if failed++; failed > maxFailed {
				continue
			}
			x := d.find("up:tests:"+name+":"+strings.Join(strings.Fields(t.Name), "-"), "read its log", "%s fails on the upgraded device", t.Name)
			x.Object, x.Log, x.Evidence = t.Name, kept.Log, check.Tail(t.Log, 12)
		}
	}
	switch {
	case failed > maxFailed:
		whole("has %s more that fail", check.Count(failed-maxFailed, "test"))
	case tests == 0:
		whole("asked nothing")
	case ran != nil && failed == 0:
		whole("ends with an error, though no test failed: %v", ran)
	}
	d.note("%s", fmt.Sprintf("%s of it, %d failed", check.Count(tests, "test"), failed))
	return nil
}
