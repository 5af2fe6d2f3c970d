package source

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"slipway/internal/projectfile"
)

// TestExportsAreRead: what is written for kas and bitbake-setup is a build of theirs, with
// the layers and commits of the release.
func TestExportsAreRead(t *testing.T) {
	t.Parallel()
	s := release(t, "")
	for format, read := range map[string]func(dir string) (projectfile.Project, error){
		Kas: func(dir string) (projectfile.Project, error) {
			return projectfile.ReadKas(filepath.Join(dir, "kas.yml"))
		},
		Setup: func(dir string) (projectfile.Project, error) {
			return projectfile.ReadSetup(filepath.Join(dir, "bitbake-setup.conf.json"), projectfile.Choices{})
		},
	} {
		dir := filepath.Join(t.TempDir(), "out")
		if _, err := Export(t.Context(), s, options(format), dir); err != nil {
			t.Fatal(err)
		}
		p, err := read(dir)
		if err != nil || len(p.Left) != 0 {
			t.Errorf("%s: %v, %v", format, err, p.Left)
			continue
		}
		var got []string
		for _, l := range p.LayerList() {
			got = append(got, l.Name+" "+l.URL+" "+l.Commit+" "+filepath.Base(l.Path))
		}
		for _, want := range []string{"bitbake https://git.example.org/bitbake " + strings.Repeat("a", 40) + " .", "openembedded-core https://git.example.org/openembedded-core.git " + strings.Repeat("b", 40) + " meta", "meta-halyard   meta-halyard"} {
			if !slices.Contains(got, want) {
				t.Errorf("%s: no layer %q in %q", format, want, got)
			}
		}
		conf := ""
		for _, c := range p.Conf {
			conf += c.Text
		}
		if format == Kas && (p.Distro != "halyard" || p.Machines[0] != "qemux86-64" || !strings.Contains(conf, `BB_HASHSERVE_UPSTREAM = "127.0.0.1:18586"`)) {
			t.Errorf("%+v\n%s", p, conf)
		}
		if format == Setup && !strings.Contains(conf, "slipway-source/release") {
			t.Errorf("no fragment: %s", conf)
		}
	}
}

// TestSetupSchema holds the export against BitBake's own schema.
func TestSetupSchema(t *testing.T) {
	t.Parallel()
	bitbake := os.Getenv("SLIPWAY_TEST_BITBAKE")
	if bitbake == "" {
		t.Skip("SKIPPED: the schema of bitbake-setup: SLIPWAY_TEST_BITBAKE names no checkout")
	}
	c := jsonschema.NewCompiler()
	for _, name := range []string{"bitbake-setup.schema.json", "layers.schema.json"} {
		text, err := os.ReadFile(filepath.Join(bitbake, "setup-schema", name))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err == nil {
			err = c.AddResource("https://example.org/"+name, doc)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile("https://example.org/bitbake-setup.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := Export(t.Context(), release(t, ""), options(Setup), dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bitbake-setup.conf.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = schema.Validate(doc)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}
