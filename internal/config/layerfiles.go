package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// BoardFile is boards/<name>.yaml of a layer: a machine as builders and images
// see it, with every default filled in.
type BoardFile struct {
	Name        string `json:"-"` // of the file
	Schema      int    `json:"schema" jsonschema:"minimum=1,maximum=1,default=1" jsonschema_description:"Version of this format: 1."`
	Arch        string `json:"arch" jsonschema:"required" rule:"arch" jsonschema_description:"Architecture of generic packages, as rpm names it: x86_64, aarch64."`
	MachineArch string `json:"machine_arch,omitempty" rule:"arch" jsonschema_description:"Scope of the machine's own packages; the board's name with _ for - when absent."`
	Console     string `json:"console,omitempty" rule:"word" jsonschema_description:"Serial console; ttyS0 on x86_64, ttyAMA0 on aarch64 when absent."`

	doc *document
}

// Board gives what a builder is told.
func (b *BoardFile) Board() distro.Board {
	return distro.Board{Name: b.Name, Arch: b.Arch, MachineArch: b.MachineArch}
}

// ImageFile is images/<name>.yaml of a layer: what an image holds.
type ImageFile struct {
	Name     string   `json:"-"` // of the file
	Schema   int      `json:"schema" jsonschema:"minimum=1,maximum=1,default=1" jsonschema_description:"Version of this format: 1."`
	Packages []string `json:"packages" jsonschema:"required" rule:"package" jsonschema_description:"What is installed, with all that it requires."`
	Format   string   `json:"format" jsonschema:"enum=ext4,enum=oci,default=ext4" jsonschema_description:"ext4, a disk with a root file system; oci, a container image."`
	Size     Size     `json:"size,omitempty" rule:"size" jsonschema_description:"Of the root file system: 96M, 2G."`
	Boards   []string `json:"boards" rule:"board" jsonschema_description:"Only for these boards; all when absent."`

	doc *document
}

// For reports whether the image is made for a board.
func (i *ImageFile) For(board string) bool {
	return len(i.Boards) == 0 || slices.Contains(i.Boards, board)
}

// Size is a whole number of mebibytes or gibibytes: "96M", "2G".
type Size string

// Bytes gives the size in bytes; 0 for an empty Size.
func (s Size) Bytes() int64 {
	if s == "" {
		return 0
	}
	n, _ := strconv.ParseInt(string(s[:len(s)-1]), 10, 64)
	if s[len(s)-1] == 'G' {
		n *= 1024
	}
	return n << 20
}

// LoadBoard reads boards/<name>.yaml. Findings are as those of [ParseDefinition];
// they name the file with its folder. A missing file is NotFound.
func LoadBoard(path string) (*BoardFile, error) {
	data, err := readLayerFile(path, "board")
	if err != nil {
		return nil, err
	}
	return parseBoard(inFolder(path), data)
}

// LoadImage is [LoadBoard] for images/<name>.yaml.
func LoadImage(path string) (*ImageFile, error) {
	data, err := readLayerFile(path, "image")
	if err != nil {
		return nil, err
	}
	return parseImage(inFolder(path), data)
}

func inFolder(path string) string {
	return filepath.ToSlash(filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)))
}

func readLayerFile(path, what string) ([]byte, error) {
	data, err := readDocument(path)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.E(errs.NotFound, fmt.Sprintf("there is no %s %s: no file %s", what, stem(path), inFolder(path)), errs.Hintf("make it in a layer: <layer>/%ss/%s", what, filepath.Base(path)))
	}
	return data, err
}

func stem(path string) string { return strings.TrimSuffix(filepath.Base(path), ".yaml") }

func parseBoard(name string, data []byte) (*BoardFile, error) {
	b := &BoardFile{Name: stem(name), doc: parse(name, data)}
	b.doc.decode(reflect.ValueOf(b).Elem())
	b.check()
	if err := b.doc.result(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *BoardFile) check() {
	d := b.doc
	if d.root == nil {
		return
	}
	d.ownName("board", b.Name)
	if _, ok := distro.LookupArch(b.Arch); !ok && b.Arch != "" {
		msg, hint := choice("arch", b.Arch, distro.ArchNames())
		d.at("arch", msg, hint)
	}
	if d.absent("machine_arch") {
		b.MachineArch = distro.MachineArch(b.Name)
		if !rules["arch"].accepts(b.MachineArch) {
			d.missing("machine_arch", fmt.Sprintf("machine_arch would be %q, which is not %s", short(b.MachineArch), rules["arch"].what), "name one: small letters, digits and _")
		}
	}
	if _, taken := distro.LookupArch(b.MachineArch); taken {
		d.at("machine_arch", fmt.Sprintf("machine_arch is %s, an architecture of generic packages", b.MachineArch), "each has its own feed: choose another name")
	}
	if d.absent("console") {
		b.Console = "ttyS0"
		if b.Arch == "aarch64" {
			b.Console = "ttyAMA0"
		}
	}
}

// absent is true for a key without a value, too; not for one whose value was refused.
func (d *document) absent(path string) bool {
	n := d.values[path]
	return !d.given(path) || n != nil && n.ShortTag() == "!!null"
}

// ownName judges the name that a document has from its file.
func (d *document) ownName(what, name string) {
	rule := rules["board"]
	if what == "image" {
		rule = rules["package"]
	}
	if !rule.accepts(name) {
		d.find(0, 0, fmt.Sprintf("the file's name, %q, is no name of %s %s", short(name), article(what), what), rule.form)
	}
}

func article(what string) string {
	if what == "image" {
		return "an"
	}
	return "a"
}

func parseImage(name string, data []byte) (*ImageFile, error) {
	i := &ImageFile{Name: stem(name), doc: parse(name, data)}
	i.doc.decode(reflect.ValueOf(i).Elem())
	i.check()
	if err := i.doc.result(); err != nil {
		return nil, err
	}
	return i, nil
}

// What mke2fs makes a usable root file system in, and what a disk of ours may be.
const minSize, maxImage = 16 << 20, 64 << 30

func (i *ImageFile) check() {
	d := i.doc
	if d.root == nil {
		return
	}
	d.ownName("image", i.Name)
	if i.Packages != nil && len(i.Packages) == 0 {
		d.at("packages", "packages is empty", "name what is installed: [base-files, busybox]")
	}
	d.unique("packages", "package", i.Packages)
	d.unique("boards", "board", i.Boards)
	switch {
	case i.Format == "oci" && i.Size != "":
		d.at("size", "size does nothing with format oci", "remove it")
	case i.Format == "ext4" && d.absent("size"):
		d.missing("size", "size is missing", rules["size"].form)
	case i.Size != "" && (i.Size.Bytes() < minSize || i.Size.Bytes() > maxImage):
		d.at("size", fmt.Sprintf("size is %s", i.Size), "from 16M to 64G")
	}
}

// BoardFiles reads the files of all boards of the definition, in its order, from
// the folders of its layers. A board that no layer has, or two, is a finding, at
// its place in the definition; the findings of all files come with them.
func (d *Definition) BoardFiles(layers []string) ([]*BoardFile, error) {
	d.doc.findings = nil
	var all []*BoardFile
	var bad errs.List
	for i, b := range d.Boards {
		path := d.inLayers(layers, "boards", "board", b.Name, fmt.Sprintf("boards[%d].name", i))
		if path == "" {
			continue
		}
		f, err := LoadBoard(path)
		if err != nil {
			bad = append(bad, Findings(err)...)
			continue
		}
		if d.Builder.Kind == RPMBuild && !slices.Contains(d.Builder.Arches, f.Arch) {
			d.doc.at(fmt.Sprintf("boards[%d].name", i), fmt.Sprintf("board %s has the architecture %s, which builder.arches does not name", b.Name, f.Arch),
				fmt.Sprintf("builder: {kind: rpmbuild, arches: [%s]}", strings.Join(append(slices.Clone(d.Builder.Arches), f.Arch), ", ")))
		}
		for _, o := range all {
			if o.MachineArch == f.MachineArch {
				d.doc.at(fmt.Sprintf("boards[%d].name", i), fmt.Sprintf("the boards %s and %s have one machine_arch, %s", o.Name, f.Name, f.MachineArch), "each has its own feed: give one another machine_arch")
			}
		}
		all = append(all, f)
	}
	if err := append(errs.List(Findings(d.doc.result())), bad...).Err(); err != nil {
		return nil, err
	}
	return all, nil
}

// ImageFiles is [Definition.BoardFiles] for all images that a board names, by name.
func (d *Definition) ImageFiles(layers []string) (map[string]*ImageFile, error) {
	d.doc.findings = nil
	all := map[string]*ImageFile{}
	var bad errs.List
	tried := map[string]bool{}
	for i, b := range d.Boards {
		for j, name := range b.Images {
			at := fmt.Sprintf("boards[%d].images[%d]", i, j)
			if !tried[name] {
				tried[name] = true
				if path := d.inLayers(layers, "images", "image", name, at); path != "" {
					f, err := LoadImage(path)
					if err != nil {
						bad = append(bad, Findings(err)...)
						continue
					}
					all[name] = f
				}
			}
			if f := all[name]; f != nil && !f.For(b.Name) {
				d.doc.at(at, fmt.Sprintf("image %s is not for board %s", name, b.Name), "its file says boards: ["+strings.Join(f.Boards, ", ")+"]")
			}
		}
	}
	if err := append(errs.List(Findings(d.doc.result())), bad...).Err(); err != nil {
		return nil, err
	}
	return all, nil
}

// inLayers finds <layer>/<folder>/<name>.yaml; "" after a finding.
func (d *Definition) inLayers(layers []string, folder, what, name, at string) string {
	var found, known []string
	for _, l := range layers {
		files, _ := filepath.Glob(filepath.Join(l, folder, "*.yaml"))
		for _, f := range files {
			known = append(known, stem(f))
		}
		path := filepath.Join(l, folder, name+".yaml")
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		}
	}
	switch {
	case len(found) == 0:
		hint := fmt.Sprintf("make it: <layer>/%s/%s.yaml", folder, name)
		if near := errs.Near(name, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		d.doc.at(at, fmt.Sprintf("no layer has the %s %s", what, name), hint)
		return ""
	case len(found) > 1:
		d.doc.at(at, fmt.Sprintf("%d layers have the %s %s", len(found), what, name), "remove one, or give it another name")
		return ""
	}
	return found[0]
}
