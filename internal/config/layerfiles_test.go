package config

import (
	"os"
	"path/filepath"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// shown gives a decoded document, or its findings.
func shown(v any, err error) string {
	if err != nil {
		return findings(err)
	}
	return string(distro.CanonicalJSON(v))
}

func TestBoardFiles(t *testing.T) {
	t.Parallel()
	golden(t, "board", func(t *testing.T, name string, data []byte) string { return shown(parseBoard(name, data)) })
}

func TestImageFiles(t *testing.T) {
	t.Parallel()
	golden(t, "image", func(t *testing.T, name string, data []byte) string { return shown(parseImage(name, data)) })
}

func TestAdvisoryFiles(t *testing.T) {
	t.Parallel()
	golden(t, "advisory", func(t *testing.T, name string, data []byte) string { return shown(parseAdvisory(name, data)) })
}

func TestSizeBytes(t *testing.T) {
	t.Parallel()
	for s, want := range map[Size]int64{"": 0, "96M": 96 << 20, "2G": 2 << 30} {
		if got := s.Bytes(); got != want {
			t.Errorf("%s: %d", s, got)
		}
	}
}

// layer writes files below a new folder.
func layer(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func twoBoards(t *testing.T, builder, boards string) *Definition {
	t.Helper()
	d, err := ParseDefinition("slipway.yaml", []byte(`schema: 1
distribution: halyard
series: {name: "1", released: 2026-12-01, security_support_ends: 2030-12-01, ends: 2031-12-01}
layers: [{name: halyard, path: ./layers/halyard}]
feeds: {base_url: "https://feeds.example.org/halyard"}
builder: `+builder+"\nboards:\n"+boards))
	if err != nil {
		t.Fatal(findings(err))
	}
	return d
}

func TestFilesOfADefinition(t *testing.T) {
	t.Parallel()
	l := layer(t, map[string]string{
		"boards/qemux86-64.yaml": "arch: x86_64\n",
		"boards/qemuarm64.yaml":  "arch: aarch64\n",
		"images/light.yaml":      "packages: [busybox]\nsize: 96M\n",
		"images/full.yaml":       "packages: [dnf]\nsize: 512M\nboards: [qemux86-64]\n",
	})
	d := twoBoards(t, "{arches: [x86_64, aarch64]}", "  - {name: qemux86-64, images: [light, full]}\n  - {name: qemuarm64, images: [light]}\n")
	boards, err := d.BoardFiles([]string{t.TempDir(), l})
	if err != nil || len(boards) != 2 || boards[0].Board() != (distro.Board{Name: "qemux86-64", Arch: "x86_64", MachineArch: "qemux86_64"}) || boards[1].Console != "ttyAMA0" {
		t.Fatalf("%+v %v", boards, err)
	}
	images, err := d.ImageFiles([]string{l})
	if err != nil || len(images) != 2 || images["full"].Size.Bytes() != 512<<20 || images["full"].For("qemuarm64") {
		t.Fatalf("%+v %v", images, err)
	}
}

func TestFindingsInFilesOfADefinition(t *testing.T) {
	t.Parallel()
	one := layer(t, map[string]string{
		"boards/qemuarm64.yaml": "arch: aarch64\n",
		"boards/twin.yaml":      "arch: x86_64\nmachine_arch: pc\n",
		"boards/two.yaml":       "arch: x86_64\n",
		"boards/pc.yaml":        "arch: x86_64\n",
		"boards/bad.yaml":       "arhc: x86_64\n",
		"images/full.yaml":      "packages: [dnf]\nsize: 512M\nboards: [pc]\n",
		"images/bad.yaml":       "packages: dnf\nsize: 512M\n",
	})
	two := layer(t, map[string]string{"boards/two.yaml": "arch: x86_64\n"})
	d := twoBoards(t, "{arches: [x86_64]}", "  - {name: qemuarm64, images: [full, bad, ful]}\n  - {name: qemu-arm64}\n  - {name: two}\n  - {name: pc}\n  - {name: twin}\n  - {name: bad}\n")
	_, err := d.BoardFiles([]string{one, two})
	const boards = `slipway.yaml:8:12: board qemuarm64 has the architecture aarch64, which builder.arches does not name
      - {name: qemuarm64, images: [full, bad, ful]}
               ^
  hint: builder: {kind: rpmbuild, arches: [x86_64, aarch64]}
slipway.yaml:9:12: no layer has the board qemu-arm64
      - {name: qemu-arm64}
               ^
  hint: did you mean "qemuarm64"?
slipway.yaml:10:12: 2 layers have the board two
      - {name: two}
               ^
  hint: remove one, or give it another name
slipway.yaml:12:12: the boards pc and twin have one machine_arch, pc
      - {name: twin}
               ^
  hint: each has its own feed: give one another machine_arch
boards/bad.yaml:1:1: unknown key "arhc"
    arhc: x86_64
    ^
  hint: did you mean "arch"?
`
	if got := findings(err); got != boards {
		t.Errorf("%s", got)
	}
	_, err = d.ImageFiles([]string{one, two})
	const images = `slipway.yaml:8:32: image full is not for board qemuarm64
      - {name: qemuarm64, images: [full, bad, ful]}
                                   ^
  hint: its file says boards: [pc]
slipway.yaml:8:43: no layer has the image ful
      - {name: qemuarm64, images: [full, bad, ful]}
                                              ^
  hint: did you mean "full"?
images/bad.yaml:1:11: packages must be a list, not a text
    packages: dnf
              ^
  hint: write [one, two], or one line per item that begins with a dash
`
	if got := findings(err); got != images {
		t.Errorf("%s", got)
	}
}

func TestMissingLayerFile(t *testing.T) {
	t.Parallel()
	_, err := LoadBoard(filepath.Join(t.TempDir(), "boards", "tug.yaml"))
	if !errs.Is(err, errs.NotFound) || err.Error() != "there is no board tug: no file boards/tug.yaml" {
		t.Error(err)
	}
	l := layer(t, map[string]string{"images/x.yaml": "packages: [a]\nsize: 96M\n"})
	if i, err := LoadImage(filepath.Join(l, "images/x.yaml")); err != nil || i.Name != "x" || i.Format != "ext4" {
		t.Errorf("%+v %v", i, err)
	}
}

func FuzzLayerFiles(f *testing.F) {
	for _, dir := range []string{"board", "image"} {
		for _, file := range goldenFiles(f, dir) {
			f.Add(readArchive(f, file).input)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := parseBoard("boards/x.yaml", data); err == nil {
			if _, ok := distro.LookupArch(b.Arch); !ok || b.MachineArch == "" || b.Console == "" {
				t.Fatalf("%+v", b)
			}
		} else {
			findings(err)
		}
		if i, err := parseImage("images/x.yaml", data); err == nil {
			if len(i.Packages) == 0 || i.Format == "ext4" && i.Size.Bytes() < minSize {
				t.Fatalf("%+v", i)
			}
		} else {
			findings(err)
		}
	})
}
