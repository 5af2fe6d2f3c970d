package selfupgrades

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/qemu"
	"slipway/internal/testresults"
)

// Programs that test a guest: stand-ins for oe-test, which is not run here.
func TestGuestTests(t *testing.T) {
	t.Parallel()
	const results = `cat > testresults.json <<END
{"runtime_light_tiny": {"configuration": {"TEST_TYPE": "runtime", "MACHINE": "$SLIPWAY_BOARD", "IMAGE_BASENAME": "$SLIPWAY_IMAGE"},
 "result": {"ping.PingTest.test_ping": {"status": "PASSED"}, "ssh.SSHTest.test_ssh": {"status": "%s", "log": "refused at $SLIPWAY_TARGET"}}}}
END
`
	for _, tt := range []struct {
		name, script string
		want         []string
		text         string
	}{
		{"good", strings.Replace(results, "%s", "PASSED", 1) + "[ \"$PWD\" = \"$SLIPWAY_RESULTS\" ] && grep -q 'OPENSSH PRIVATE KEY' \"$SLIPWAY_KEY\"", nil, ""},
		{"bad", strings.Replace(results, "%s", "FAILED", 1) + "exit 1", []string{"up:tests:bad:ssh.SSHTest.test_ssh"}, "fails on the upgraded device"},
		{"plain", "exit 0", nil, ""},
		{"plain-bad", "echo no route; exit 3", []string{"up:tests:plain-bad"}, "leaves no testresults.json: exit status 3"},
		{"endless", "sleep 1000", []string{"up:tests:endless"}, "did not end within 2s"},
		{"nonsense", "echo '{' > testresults.json", []string{"up:tests:nonsense"}, "cannot be read"},
		{"empty", `echo '{"r": {"configuration": {"TEST_TYPE": "runtime", "MACHINE": "tiny", "IMAGE_BASENAME": "light"}, "result": {}}}' > testresults.json`, []string{"up:tests:empty"}, "asked nothing"},
		{"sees-keys", "[ ! -e \"$KEYS/secret\" ]", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key, err := qemu.NewKey()
			if err != nil {
				t.Fatal(err)
			}
			checks, keys := t.TempDir(), t.TempDir()
			if err := os.WriteFile(filepath.Join(keys, "secret"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			script := "#!/bin/sh\n" + strings.ReplaceAll(tt.script, "$KEYS", keys) + "\n"
			if err := os.WriteFile(filepath.Join(checks, tt.name+".sh"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			// As check.Run lays it out.
			d := &device{bed: &check.Bed{Dir: t.TempDir(), GuestTests: checks, Hide: []string{keys}, TestTime: 2 * time.Second, Version: "1.2"},
				of: check.SelfUpgrade{BootImage: check.BootImage{Board: "tiny", Image: "light"}}, key: key}
			if err := d.guestTest(t.Context(), tt.name+".sh", "127.0.0.1:2222"); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range d.findings {
				got = append(got, strings.TrimPrefix(f.ID, "tiny/light:"))
				if !strings.Contains(f.Text, tt.text) || f.Cure == "" {
					t.Errorf("%+v", f)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s\n%s", diff, d.said.String())
			}
			if tt.name == "bad" {
				if f := d.findings[0]; len(d.files) != 1 || f.Log != d.files[0].Log || f.Evidence[0] != "refused at 127.0.0.1:2222" {
					t.Errorf("%+v %+v", f, d.files)
				}
				r, err := os.Open(d.files[0].Path)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if runs, err := testresults.Read(r, "x"); err != nil || len(runs) != 1 || len(runs[0].Tests) != 2 {
					t.Errorf("%v %v", runs, err)
				}
			}
		})
	}
}
