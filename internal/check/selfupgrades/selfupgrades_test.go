package selfupgrades

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/qemu"
	"slipway/internal/qemu/qemutest"
)

// What a device really does is asked in examples/boards: it takes a release.

func ask(t *testing.T, of ...check.SelfUpgrade) check.Outcome {
	t.Helper()
	got, err := check.Run(t.Context(), &check.Bed{Dir: t.TempDir(), Jobs: 2, SelfUpgrades: of}, []check.Check{New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

func TestNothingToAsk(t *testing.T) {
	t.Parallel()
	for _, of := range [][]check.SelfUpgrade{nil, {{BootImage: check.BootImage{Board: "tiny", Image: "full", Rig: qemutest.Native()}}}} {
		if r := ask(t, of...).Result; r.Asked != 0 || r.Note == "" || r.Error != "" || len(r.Findings) != 0 {
			t.Errorf("%+v", r)
		}
	}
}

func TestUnknownRigIsNoFinding(t *testing.T) {
	t.Parallel()
	r := ask(t, check.SelfUpgrade{BootImage: check.BootImage{Board: "b", Image: "i", Rig: "qemu-vax", Path: "/nonexistent"}}).Result
	if !strings.Contains(r.Error, `rig "qemu-vax"`) || len(r.Findings) != 0 {
		t.Errorf("%+v", r)
	}
}

// A device that does not come up, and one that has no rpm, are findings with the
// console's last lines, and nothing of them stays.
func TestBadImages(t *testing.T) {
	t.Parallel()
	image := func(name, rc string) check.SelfUpgrade {
		return check.SelfUpgrade{BootImage: check.BootImage{Board: "tiny", Image: name, Rig: qemutest.Native(), Path: qemutest.Image(t, qemutest.Native(), rc)}, Origin: check.Origin{Version: "1.1"}}
	}
	o := ask(t, image("dead", "echo c > /proc/sysrq-trigger\n"), image("bare", qemutest.Device+qemutest.Say))
	r := o.Result
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.ID)
		if f.Level != distro.Block || len(f.Boards) != 1 || f.Cure == "" || f.Log == "" || len(f.Evidence) < 10 {
			t.Errorf("%+v", f)
		}
	}
	if d := cmp.Diff([]string{"tiny/bare:boot", "tiny/dead:boot"}, got); d != "" || r.Error != "" {
		t.Errorf("%s\n%s\n%+v", d, r.Error, r.Findings)
	}
	for _, f := range o.Files {
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(f.Path)), "tiny-*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestUnsigned(t *testing.T) {
	t.Parallel()
	const text = `[main]
gpgcheck=1
[good]
enabled = 1
repo_gpgcheck=True
[bare]
[no-packages]
gpgcheck=0
repo_gpgcheck=1
[off]
enabled=0
gpgcheck=0
`
	if d := cmp.Diff([]string{"bare", "no-packages"}, unsigned(text)); d != "" {
		t.Error(d)
	}
}

func TestNoReplace(t *testing.T) {
	t.Parallel()
	// 17 is config and noreplace, 1 config alone, 81 a ghost besides, 16 no config.
	if d := cmp.Diff([]string{"/a b", "/z"}, noReplace("17 /z\n1 /c\n81 /g\n16 /n\n0 /f\n17 /a b\n17 /z\n(none)\n")); d != "" {
		t.Error(d)
	}
}

func TestCure(t *testing.T) {
	t.Parallel()
	for _, said := range []string{"Error Summary\n-------------\nDisk Requirements:\n   At least 12MB more space needed on the / filesystem.\n", "[Errno 28] No space left on device: '/var/cache/dnf/x'"} {
		if c := cure(said, "full"); !strings.Contains(c, "disk is full") || !strings.Contains(c, "images/full.yaml") {
			t.Errorf("%q", c)
		}
	}
	if c := cure("Error: nothing provides x", "full"); c != "" {
		t.Errorf("%q", c)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	address, stop, err := serve("file://" + dir)
	if err != nil {
		t.Fatal(err)
	}
	here := strings.Replace(address, qemu.Host, "127.0.0.1", 1)
	get := func(url string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = r.Body.Close() }()
		b, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(b)
	}
	if code, body := get(here + "/f"); code != 200 || body != "bytes" {
		t.Error(code, body)
	}
	if code, body := get(here[:strings.LastIndex(here, "/")] + "/f"); code != 404 {
		t.Error("without the secret path:", code, body)
	}
	stop()
	if code, _ := get(here + "/f"); code != 0 {
		t.Error("still served:", code)
	}
	if address, _, err := serve("https://feeds.example.org"); address != "https://feeds.example.org" || err != nil {
		t.Error(address, err)
	}
}
