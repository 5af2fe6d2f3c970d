package rpm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

func content(t *testing.T, path string) distro.Content {
	t.Helper()
	p, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return ContentOf(p)
}

// TestContentIgnoresHowItWasBuilt: another host, time, compression, an rpm that
// needs other features of rpm, and a signature make no other content.
func TestContentIgnoresHowItWasBuilt(t *testing.T) {
	t.Parallel()
	one := pick(t, build(t, "rich", "w9.gzdio"), "rich-1")
	other := pick(t, build(t, "rich", "w3.zstdio", "_buildhost elsewhere", "use_source_date_epoch_as_buildtime 1", "packager Somebody"), "rich-1")
	a, b := content(t, one), content(t, other)
	if diff := cmp.Diff(a, b); diff != "" || distro.ContentDigest(a) != distro.ContentDigest(b) {
		t.Errorf("one, other:\n%s", diff)
	}
	raw := load(t, one)
	var signed bytes.Buffer
	err := Resign(&signed, bytes.NewReader(raw), int64(len(raw)), func([]byte) ([]byte, int, error) { return []byte("sig"), sigRSA, nil })
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "signed.rpm")
	if err := os.WriteFile(path, signed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, content(t, path)); diff != "" {
		t.Errorf("unsigned, signed:\n%s", diff)
	}
}

func TestContentOfRich(t *testing.T) {
	t.Parallel()
	c := content(t, pick(t, build(t, "rich", "w9.gzdio"), "rich-1"))
	want := map[string][]string{
		"provides":   {"config(rich) = 2:1.0~rc1-3", "plain-virtual", "rich = 2:1.0~rc1-3", "virtual(rich) = 1:2.0-1"},
		"conflicts":  {"enemy <= 2"},
		"obsoletes":  {"poor < 1.0"},
		"recommends": {"(docs or manual)"},
		"suggests":   {"extras > 1"},
		"enhances":   {"tool = 0:1"},
		"supplements": {
			"(rich-core and locale)",
		},
	}
	requires := strings.Join(c.Deps["requires"], "\n")
	if strings.Contains(requires, "rpmlib(") {
		t.Errorf("rpm's own features are no content:\n%s", requires)
	}
	for _, r := range []string{"(a-thing >= 1.0 if b-thing)", "c-thing < 3:2.0", "/usr/bin/id (0x200)", "helper (0xc00)", "meta-thing (0x20000000)", "/bin/sh (0x300)"} {
		if !strings.Contains("\n"+requires+"\n", "\n"+r+"\n") {
			t.Errorf("no %q in\n%s", r, requires)
		}
	}
	delete(c.Deps, "requires")
	if diff := cmp.Diff(want, c.Deps); diff != "" {
		t.Errorf("want, got:\n%s", diff)
	}
	files := map[string]distro.ContentFile{}
	for _, f := range c.Files {
		files[f.Path] = f
	}
	if f := files["/usr/bin/capable"]; f.Mode != 0o104750 || f.Caps == "" || f.Group != "daemon" || len(f.Digest) != 64 {
		t.Errorf("%+v", f)
	}
	if f := files["/var/lib/rich/state"]; f.Flags&FileGhost == 0 || f.Size != 0 || f.Digest != "" {
		t.Errorf("a ghost has no bytes: %+v", f)
	}
	if f := files["/usr/share/rich"]; f.Size != 0 {
		t.Errorf("the size of a folder is the file system's: %+v", f)
	}
	if _, ok := c.Scripts["triggerin other > 1.0, third"]; !ok || len(c.Scripts) != 11 {
		t.Errorf("scripts %v", c.Scripts)
	}
}

// TestContentSeesEveryChange: each change of what a device gets changes the digest.
func TestContentSeesEveryChange(t *testing.T) {
	t.Parallel()
	path := pick(t, build(t, "rich", "w9.gzdio"), "rich-1")
	seen := map[distro.Digest]string{distro.ContentDigest(content(t, path)): "unchanged"}
	for name, change := range map[string]func(p *Package){
		"summary":  func(p *Package) { p.Summary += "." },
		"license":  func(p *Package) { p.License = "MIT" },
		"epoch":    func(p *Package) { p.Epoch++ },
		"release":  func(p *Package) { p.Release = "4" },
		"arch":     func(p *Package) { p.Arch = "x86_64" },
		"mode":     func(p *Package) { p.Files[3].Mode ^= 1 },
		"owner":    func(p *Package) { p.Files[3].User = "nobody" },
		"bytes":    func(p *Package) { p.Files[len(p.Files)-2].Link += "x" },
		"flags":    func(p *Package) { p.Files[3].Flags ^= FileConfig },
		"caps":     func(p *Package) { p.Files[3].Caps += "=" },
		"file":     func(p *Package) { p.Files = p.Files[1:] },
		"requires": func(p *Package) { p.Requires = append(p.Requires, Dep{Name: "x"}) },
		"provides": func(p *Package) { p.Provides = append(p.Provides, Dep{Name: "x"}) },
		"when":     func(p *Package) { p.Requires = append(p.Requires, Dep{Name: "x", Flags: SenseScriptPre}) },
		"script":   func(p *Package) { p.Scripts[1].Body += "\n" },
		"interp":   func(p *Package) { p.Scripts[1].Interp += " -e" },
		"trigger":  func(p *Package) { p.Scripts[7].On[0].EVR = "2" },
		"priority": func(p *Package) { p.Scripts[9].Priority = 1 },
		"bad utf8": func(p *Package) { p.Files[3].Path += "\xff" },
		"bad utf9": func(p *Package) { p.Files[3].Path += "\xfe" },
	} {
		p, err := ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		change(p)
		d := p.ContentDigest()
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
}

func TestResignRefuses(t *testing.T) {
	t.Parallel()
	b, _ := sample(t)
	for name, tt := range map[string]struct {
		sig  []byte
		tag  int
		err  error
		kind errs.Kind
	}{
		"no signature": {nil, sigRSA, nil, errs.Internal},
		"no such tag":  {[]byte("x"), 1000, nil, errs.Internal},
		"no signer":    {nil, 0, errs.E(errs.Denied, "locked"), errs.Denied},
	} {
		var out bytes.Buffer
		err := Resign(&out, bytes.NewReader(b), int64(len(b)), func([]byte) ([]byte, int, error) { return tt.sig, tt.tag, tt.err })
		if !errs.Is(err, tt.kind) || out.Len() != 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, out.Len())
		}
	}
}

// TestSignatureOfRPM6 goes in as base64 and comes out as bytes.
func TestSignatureOfRPM6(t *testing.T) {
	t.Parallel()
	b, _ := sample(t)
	var out bytes.Buffer
	if err := Resign(&out, bytes.NewReader(b), int64(len(b)), func([]byte) ([]byte, int, error) { return []byte{1, 2, 3}, sigOpenPGP, nil }); err != nil {
		t.Fatal(err)
	}
	p, err := Read(bytes.NewReader(out.Bytes()), int64(out.Len()), "six")
	if err != nil || len(p.Signatures) != 1 || p.Signatures[0].Tag != 278 || !bytes.Equal(p.Signatures[0].Data, []byte{1, 2, 3}) {
		t.Errorf("%v %v", p, err)
	}
}
