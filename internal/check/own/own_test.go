package own_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/check"
	"slipway/internal/check/own"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

// folder makes checks/ with one file, whose mode is 0755.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checks")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func bed(t *testing.T) *check.Bed {
	t.Helper()
	feed := t.TempDir()
	image := filepath.Join(t.TempDir(), "light.img")
	if err := errors.Join(os.MkdirAll(filepath.Join(feed, "1/pool"), 0o755), os.WriteFile(filepath.Join(feed, "1/pool/greet-1.1-1.noarch.rpm"), []byte("rpm"), 0o644), os.WriteFile(image, []byte("disk"), 0o644)); err != nil {
		t.Fatal(err)
	}
	greet := distro.PackageRecord{Name: "greet", Version: "1.1", Release: "1", Arch: "noarch", File: "greet-1.1-1.noarch.rpm", License: "MIT"}
	return &check.Bed{Dir: t.TempDir(), Jobs: 1, Version: "1.2", Boards: []distro.Board{{Name: "qemu"}}, Packages: []distro.PackageRecord{greet},
		Base:      []distro.PackageRecord{{Name: "greet", Version: "1.0", Release: "1", Arch: "noarch"}},
		Candidate: check.Feed{Vars: map[string]string{"slipway_url": "file://" + feed}},
		Images:    []check.BootImage{{Board: "qemu", Image: "light", Path: image, Digest: distro.DigestOf([]byte("disk"))}},
		Contents:  []check.ImageContent{{Board: "qemu", Image: "light", Packages: []distro.PackageRecord{greet}}}}
}

func run(t *testing.T, b *check.Bed, dir string, hide ...string) check.Outcome {
	t.Helper()
	list, err := own.Find(dir, hide)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	out, err := check.Run(t.Context(), b, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// TestSees: what a check is told, what it can read, and what is not there.
func TestSees(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "keys")
	if err := errors.Join(os.Mkdir(secret, 0o755), os.WriteFile(filepath.Join(secret, "key.asc"), []byte("secret"), 0o644)); err != nil {
		t.Fatal(err)
	}
	o := run(t, bed(t), folder(t, map[string]string{"sees.sh": `#!/bin/sh
# asks: is all there?
# cure: look again
# level: warn
# within: 30s
set -eu
cat >in.json
grep -q '"version": "1.2"' in.json
grep -q '"license": "MIT"' in.json
[ "$(cat /candidate/images/qemu/light)" = disk ]
[ "$(cat "$(sed -n 's/.*"path": "\(.*rpm\)".*/\1/p' in.json)")" = rpm ]
[ "$(cat /checks/lib/data)" = shared ]
[ "$PWD" = /work ] && [ "$SLIPWAY_CHECK" = own-sees ]
if echo x 2>/dev/null >/candidate/images/qemu/light; then exit 10; fi
if echo x 2>/dev/null >/checks/new; then exit 11; fi
if [ -e ` + secret + `/key.asc ] || [ -e ` + filepath.Dir(secret) + `/keys/key.asc ]; then exit 12; fi
for h in /root/.config /home/* /etc/shadow; do if [ -e "$h" ] && [ -n "$(ls -A "$h" 2>/dev/null)" ]; then exit 13; fi; done
if [ "$(wc -l </proc/net/dev)" -gt 3 ]; then exit 14; fi
echo talk >&2
echo '{"asked": 2, "findings": [{"id": "greet.noarch", "text": "it is rude", "source": "greet", "boards": ["qemu"]}]}'
`, "lib/data": "shared"}), secret)
	r := o.Result
	if r.Error != "" || r.Asked != 2 || len(r.Findings) != 1 || r.Spec.Asks != "is all there?" || r.Spec.Level != distro.Warn {
		t.Fatalf("%+v", r)
	}
	f := r.Findings[0]
	if f.Key() != "own-sees/greet.noarch" || f.Level != distro.Warn || f.Cure != "look again" || f.Boards[0] != "qemu" || f.Log != "test/own-sees/said.txt" {
		t.Errorf("%+v", f)
	}
	if b, err := os.ReadFile(o.Files[0].Path); err != nil || string(b) != "talk\n" {
		t.Errorf("%q %v", b, err)
	}
}

// TestFailsClosed: whatever goes wrong is no pass.
func TestFailsClosed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ script, want string }{
		"status":           {"#!/bin/sh\necho '{\"asked\": 1}'; echo broken >&2; exit 3\n", "exit status 3: broken"},
		"never ends":       {"#!/bin/sh\n# within: 1s\nsleep 1000 & wait\n", "did not end within 1s"},
		"nothing":          {"#!/bin/sh\n", "it wrote nothing"},
		"nonsense":         {"#!/bin/sh\necho all is well\n", "invalid character"},
		"two":              {"#!/bin/sh\necho '{\"asked\": 1} {}'\n", "more than one JSON object"},
		"a misspelt key":   {"#!/bin/sh\necho '{\"asked\": 1, \"finding\": []}'\n", `unknown field "finding"`},
		"no question":      {"#!/bin/sh\necho '{\"asked\": 0}'\n", "does not say why"},
		"no text":          {"#!/bin/sh\necho '{\"asked\": 1, \"findings\": [{\"id\": \"x\"}]}'\n", "has no text"},
		"a reserved id":    {"#!/bin/sh\necho '{\"asked\": 1, \"findings\": [{\"id\": \"error\", \"text\": \"x\"}]}'\n", "meaning of its own"},
		"a level":          {"#!/bin/sh\necho '{\"asked\": 1, \"findings\": [{\"id\": \"x\", \"text\": \"x\", \"level\": \"off\"}]}'\n", `level "off"`},
		"an unknown board": {"#!/bin/sh\necho '{\"asked\": 1, \"findings\": [{\"id\": \"x\", \"text\": \"x\", \"boards\": [\"qemi\"]}]}'\n", `board "qemi"`},
		"twice":            {"#!/bin/sh\necho '{\"asked\": 1, \"findings\": [{\"id\": \"x\", \"text\": \"x\"}, {\"id\": \"x\", \"text\": \"y\"}]}'\n", "there twice"},
		"no UTF-8":         {"#!/bin/sh\nprintf '{\"asked\": 1, \"note\": \"\\377\"}'\n", "no UTF-8"},
		"very much":        {"#!/bin/sh\nyes '{\"asked\": 1}' | head -c 9000000\n", "more than 8388608 bytes"},
		"no interpreter":   {"#!/nowhere/python\n", "exit status"},
		"no program":       {"\x00\x01\x02", "exit status"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := run(t, bed(t), folder(t, map[string]string{"one": tt.script})).Result; !strings.Contains(r.Error, tt.want) || len(r.Findings) > 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestRemembered: a good answer stays one until the check, what lies beside it, or
// the candidate is another.
func TestRemembered(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"one.sh": "#!/bin/sh\necho '{\"asked\": 1}'\n", "lib/x": "1"})
	b := bed(t)
	o := run(t, b, dir)
	if len(o.Good) != 1 || o.Result.Asked != 1 {
		t.Fatalf("%+v", o)
	}
	b.Answered = func(d distro.Digest) (string, bool) { return "1.1-c1", d == o.Good[0] }
	if r := run(t, b, dir).Result; r.Asked != 0 || !strings.Contains(r.Note, "1.1-c1") {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, "lib/x"), []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := run(t, b, dir).Result; r.Asked != 1 {
		t.Errorf("%+v", r)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	if list, err := own.Find(filepath.Join(t.TempDir(), "none"), nil); err != nil || list != nil {
		t.Error(list, err)
	}
	dir := folder(t, map[string]string{"good.sh": "#!/bin/sh\n", "README.md": "x", ".hidden": "x", "lib/x": "x"})
	if list, err := own.Find(dir, nil); err != nil || len(list) != 1 || list[0].Spec().ID != "own-good" || list[0].Spec().Level != distro.Block {
		t.Error(list, err)
	}
	for name, text := range map[string]string{"Bad Name": "#!/bin/sh\n", "good.py": "#!/bin/sh\n", "level.sh": "#!/bin/sh\n# level: quiet\n", "within.sh": "#!/bin/sh\n# within: 3w\n", "plain.sh": "#!/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(filepath.Join(dir, "plain.sh"), 0o644), os.Symlink("good.sh", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	_, err := own.Find(dir, nil)
	var list errs.List
	if !errors.As(err, &list) || len(list) != 6 || !errs.Is(err, errs.Invalid) {
		t.Fatal(err)
	}
	for _, want := range []string{`"Bad Name" is no name`, "are both check own-good", "checks/level.sh:2: no level", "checks/within.sh:2:", "plain.sh is not executable", "link is no regular file"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s is not in\n%v", want, err)
		}
	}
}

// TestForm keeps the names of the JSON that checks read: other programs rest on them.
func TestForm(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(own.Candidate{Packages: []own.Package{{Path: "x"}}, Images: []own.Image{{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{`"schema":`, `"version":`, `"boards":`, `"packages":`, `"base":`, `"images":`, `"name":`, `"release":`, `"arch":`, `"scope":`, `"source":`, `"path":`, `"digest":`, `"board":`, `"image":`} {
		if !strings.Contains(string(b), k) {
			t.Errorf("%s is not in %s", k, b)
		}
	}
}
