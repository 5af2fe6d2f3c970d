package config

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"slipway/internal/errs"
)

func findings(err error) string {
	var b bytes.Buffer
	FormatFindings(&b, err)
	return b.String()
}

func TestDefinitionGoldens(t *testing.T) {
	t.Parallel()
	golden(t, "definition", func(t *testing.T, name string, data []byte) string {
		d, err := ParseDefinition(name, data)
		if err != nil {
			for _, f := range Findings(err) {
				if !errs.Is(f, errs.Invalid) || position(f).File != name {
					t.Errorf("%v: kind %s, position %v", f, errs.KindOf(f), position(f))
				}
			}
			return findings(err)
		}
		var b bytes.Buffer
		if err := d.Show(&b); err != nil {
			t.Error(err)
		}
		return b.String()
	})
}

func TestSettingsGoldens(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HOME": "/home/me"}
	golden(t, "settings", func(t *testing.T, name string, data []byte) string {
		s, err := parseSettings(name, data, "/ws", func(k string) string { return env[k] })
		if err != nil {
			return findings(err)
		}
		var b bytes.Buffer
		if err := s.Show(&b); err != nil {
			t.Error(err)
		}
		keys, err := s.KeysDir("halyard")
		if err != nil {
			t.Error(err)
		}
		b.WriteString("publication " + s.PublicationDir() + "\nstore " + s.StoreDir() + "\nkeys " + keys + "\n")
		return b.String()
	})
}

// good gives the goldens' inputs that are valid.
func good(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, file := range goldenFiles(t, "definition") {
		a := readArchive(t, file)
		if _, err := ParseDefinition("slipway.yaml", a.input); err == nil {
			out[filepath.Base(file)] = a.input
		}
	}
	if len(out) < 3 {
		t.Fatalf("only %d valid definitions", len(out))
	}
	return out
}

var sameValues = cmp.Options{cmpopts.IgnoreUnexported(Definition{}), cmpopts.EquateEmpty()}

func TestShowReadsBackToTheSame(t *testing.T) {
	t.Parallel()
	for name, data := range good(t) {
		d, err := ParseDefinition("slipway.yaml", data)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := d.Show(&b); err != nil {
			t.Fatal(err)
		}
		again, err := ParseDefinition("slipway.yaml", b.Bytes())
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, b.String())
		}
		if diff := cmp.Diff(d, again, sameValues); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	d, err := ParseDefinition("slipway.yaml", good(t)["minimal.txtar"])
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, o := range d.Resolved() {
		got[o.Path] = o.Origin
	}
	for path, want := range map[string]string{
		"distribution": "slipway.yaml:2", "layers[0].path": "slipway.yaml:5", "builder.kind": "default",
		"builder.arches[0]": "default", "gate.upgrade_from.random": "default", "title": "default", "boards": "default",
	} {
		if got[path] != want {
			t.Errorf("origin of %s is %q, want %q", path, got[path], want)
		}
	}
}

func TestBrokenInputs(t *testing.T) {
	t.Parallel()
	design := good(t)["design.txtar"]
	for name, tt := range map[string]struct {
		data string
		want string
	}{
		"empty":       {"", "slipway.yaml: the file is empty"},
		"binary":      {"schema: 1\nx: \x00\x01", "slipway.yaml:2:4: control character U+0000"},
		"not utf-8":   {"title: H\xe4l", "slipway.yaml:1:9: byte 0xe4 is no UTF-8 text"},
		"utf-16":      {"\xff\xfes\x00", "slipway.yaml:1:1: byte 0xff is no UTF-8 text"},
		"huge":        {strings.Repeat("a: b\n", 1<<18), "slipway.yaml: larger than 1048576 bytes"},
		"deep":        {strings.Repeat("[", 100000), "slipway.yaml:1:10001: nested too deeply"},
		"gzip":        {"\x1f\x8b\x08\x00", "slipway.yaml:1:1: control character U+001F"},
		"html":        {"<!DOCTYPE html>\n<html>", "slipway.yaml:1:1: the document must be a group of keys, not a text"},
		"billion":     {"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "slipway.yaml:1:1: unknown key \"a\""},
		"bare anchor": {"a: *", "slipway.yaml:1:5: not YAML: did not find expected alphabetic or numeric character"},
	} {
		_, err := ParseDefinition("slipway.yaml", []byte(tt.data))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range design {
		if _, err := ParseDefinition("slipway.yaml", design[:i]); err != nil && !errs.Is(err, errs.Invalid) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	crlf := bytes.ReplaceAll(append([]byte("\ufeff"), design...), []byte("\n"), []byte("\r\n"))
	if _, err := ParseDefinition("slipway.yaml", crlf); err != nil {
		t.Errorf("byte order mark and CRLF: %v", err)
	}
	many := "schema: 1\n"
	for i := range 1000 {
		many += strings.Repeat("k", i%7+1) + strings.Repeat("z", i/7+1) + ": 1\n"
	}
	if _, err := ParseDefinition("slipway.yaml", []byte(many)); len(Findings(err)) != maxFindings+1 {
		t.Errorf("%d findings", len(Findings(err)))
	}
}

func TestFilesAndLaterChecks(t *testing.T) {
	t.Parallel()
	ws := t.TempDir()
	if _, err := LoadDefinition(filepath.Join(ws, "slipway.yaml")); !errs.Is(err, errs.NotFound) {
		t.Errorf("missing file: %v", err)
	}
	path := filepath.Join(ws, "slipway.yaml")
	data := append(good(t)["minimal.txtar"], "gate: {checks: {upgrde: warn}}\n"...)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := LoadDefinition(path)
	if err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(filepath.Join(ws, "layers", "meta-halyrad"), 0o755)
	want := `slipway.yaml:5:32: layer meta-halyard: there is no folder ./layers/meta-halyard
      - {name: meta-halyard, path: ./layers/meta-halyard}
                                   ^
  hint: did you mean "layers/meta-halyrad"?
`
	if diff := cmp.Diff(want, findings(d.CheckFolders(ws))); diff != "" {
		t.Error(diff)
	}
	os.MkdirAll(filepath.Join(ws, "layers", "meta-halyard"), 0o755)
	if err := d.CheckFolders(ws); err != nil {
		t.Error(err)
	}
	if got := findings(d.CheckIDs([]string{"install", "upgrade"}, nil)); !strings.Contains(got, `slipway.yaml:7:17: unknown check "upgrde"`) || !strings.Contains(got, `did you mean "upgrade"?`) {
		t.Error(got)
	}
	s, err := LoadSettings(filepath.Join(ws, "settings.yaml"), ws)
	if err != nil || s.PublicationDir() != filepath.Join(ws, "publication") {
		t.Errorf("%+v %v", s, err)
	}
	text := good(t)["design.txtar"]
	b, err := ParseDefinition("slipway.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if b.Builder.Kind != BitBake {
		t.Errorf("%+v", b.Builder)
	}
	// Another CI builds: it has a configuration of its own, and the release is asked for.
	text = bytes.Replace(text, []byte("kind: bitbake"), []byte("kind: import"), 1)
	if _, err := ParseDefinition("slipway.yaml", text); err == nil || !strings.Contains(findings(err), "conf does nothing with builder import") {
		t.Error(err)
	}
	text = regexp.MustCompile(`(?m)^conf: .*\n(  .*\n)*`).ReplaceAll(text, nil)
	if b, err = ParseDefinition("slipway.yaml", text); err != nil || b.Builder.Kind != Import || b.Builder.Release != "wrynose" || !Yocto(b.Builder.Kind) {
		t.Error(b, err)
	}
}

func FuzzParseDefinition(f *testing.F) {
	for _, file := range goldenFiles(f, "definition") {
		f.Add(readArchive(f, file).input)
	}
	f.Add([]byte("schema: 1\nlayers: [{name: !!binary x}]\n? [a]\n: b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDefinition("slipway.yaml", data)
		if err != nil {
			findings(err)
			return
		}
		var b bytes.Buffer
		if err := d.Show(&b); err != nil {
			t.Fatal(err)
		}
		again, err := ParseDefinition("slipway.yaml", b.Bytes())
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		if diff := cmp.Diff(d, again, sameValues); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParseSettings(f *testing.F) {
	for _, file := range goldenFiles(f, "settings") {
		f.Add(readArchive(f, file).input)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSettings("settings.yaml", data, "/ws", func(string) string { return "/home/me" })
		if err != nil {
			findings(err)
			return
		}
		if within(s.PublicationDir(), s.StoreDir()) || within(s.Workspace(), s.PublicationDir()) {
			t.Fatalf("%+v", s)
		}
	})
}
