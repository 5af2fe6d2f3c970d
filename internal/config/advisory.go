package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"slipway/internal/errs"
)

// AdvisoryFile is advisories/<id>.yaml beside slipway.yaml: one advisory, reviewed as
// the definition is. It names recipes or packages and the release that brought the fix;
// versions, architectures and dates are never written by hand.
type AdvisoryFile struct {
	ID          string         `json:"-"` // the file's name
	Schema      int            `json:"schema" jsonschema:"required,minimum=1,maximum=1" jsonschema_description:"Version of this format: 1."`
	Title       string         `json:"title" jsonschema:"required" rule:"title" jsonschema_description:"One line: what is mended."`
	Type        string         `json:"type" jsonschema:"enum=security,enum=bugfix,enum=enhancement,default=security" jsonschema_description:"What dnf lists it by."`
	Severity    string         `json:"severity,omitempty" jsonschema:"enum=critical,enum=important,enum=moderate,enum=low" jsonschema_description:"Required for security."`
	FixedIn     string         `json:"fixed_in" jsonschema:"required" rule:"word" jsonschema_description:"The published release that brought the fix."`
	Recipes     []string       `json:"recipes,omitempty" rule:"package" jsonschema_description:"Every package that these recipes brought in that release."`
	Packages    []string       `json:"packages,omitempty" rule:"package" jsonschema_description:"Packages by name; with recipes, as well as theirs."`
	Description string         `json:"description" jsonschema:"required" jsonschema_description:"What is wrong, whom it concerns, what to do beside the update."`
	CVEs        []string       `json:"cves,omitempty" rule:"cve" jsonschema_description:"CVE ids."`
	References  []ReferenceKey `json:"references,omitempty" jsonschema_description:"Where more is said."`
	Reboot      bool           `json:"reboot,omitempty" jsonschema_description:"Devices are to be started anew after the update."`
	Withdrawn   string         `json:"withdrawn,omitempty" rule:"title" jsonschema_description:"Why the advisory is offered no more. Never remove the file: write this."`

	doc *document
}

// ReferenceKey is an address with a title.
type ReferenceKey struct {
	URL   string `json:"url" jsonschema:"required" rule:"link" jsonschema_description:"http or https."`
	Title string `json:"title,omitempty" rule:"title" jsonschema_description:"What stands there; the address when absent."`
}

// maxDescription bounds what every device downloads of an advisory, in bytes.
const maxDescription = 16 << 10

// LoadAdvisory reads advisories/<id>.yaml (JSON is YAML, too: <id>.json). Findings are as
// those of [ParseDefinition]. A missing file is NotFound.
func LoadAdvisory(path string) (*AdvisoryFile, error) {
	data, err := readDocument(path)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.E(errs.NotFound, "there is no advisory "+path, errs.Hint("an advisory is a file advisories/<id>.yaml beside slipway.yaml"))
	}
	if err != nil {
		return nil, err
	}
	return parseAdvisory(inFolder(path), data)
}

func parseAdvisory(name string, data []byte) (*AdvisoryFile, error) {
	base := filepath.Base(name)
	a := &AdvisoryFile{ID: strings.TrimSuffix(base, filepath.Ext(base)), doc: parse(name, data)}
	a.doc.decode(reflect.ValueOf(a).Elem())
	a.check()
	if err := a.doc.result(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *AdvisoryFile) check() {
	d := a.doc
	if d.root == nil {
		return
	}
	if !rules["advisory"].accepts(a.ID) {
		d.find(0, 0, fmt.Sprintf("the file's name, %q, is no id of an advisory", short(a.ID)), rules["advisory"].form)
	}
	if a.Type == "security" && d.absent("severity") {
		d.missing("severity", "severity is missing", "a security advisory has one: critical, important, moderate or low")
	}
	if len(a.Recipes)+len(a.Packages) == 0 && !d.given("recipes") && !d.given("packages") {
		d.missing("recipes", "the advisory names no recipe and no package", "recipes: [libknot] takes all that the recipe brought; packages: [libknot-tools] takes one")
	}
	if a.Recipes != nil && len(a.Recipes) == 0 {
		d.at("recipes", "recipes is empty", "name one, or leave the key out")
	}
	if a.Packages != nil && len(a.Packages) == 0 {
		d.at("packages", "packages is empty", "name one, or leave the key out")
	}
	d.unique("recipes", "recipe", a.Recipes)
	d.unique("packages", "package", a.Packages)
	d.unique("cves", "CVE", a.CVEs)
	if d.given("description") && strings.TrimSpace(a.Description) == "" {
		d.at("description", "description is empty", "say what is wrong, and whom it concerns")
	}
	if len(a.Description) > maxDescription {
		d.at("description", fmt.Sprintf("description has %d bytes", len(a.Description)), fmt.Sprintf("every device downloads it: at most %d; link to more by references", maxDescription))
	}
}

// Finding is an Invalid error about a key of the file, at its place: "recipes[0]".
func (a *AdvisoryFile) Finding(key, msg, hint string) error {
	a.doc.findings = nil
	a.doc.at(key, msg, hint)
	return a.doc.result()
}
