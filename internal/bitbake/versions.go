package bitbake

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// VersionsName is the file, and the artifact of class configuration behind "bitbake/",
// that names the programs of a build. Describe writes it.
const VersionsName = "versions.json"

// Versions are the programs that a build ran with, for whoever builds it again.
type Versions struct {
	BitBake    string   `json:"bitbake"`              // "2.18.0"
	Python     string   `json:"python"`               // "3.11.2"
	Host       string   `json:"host"`                 // "debian-12"
	Uninative  string   `json:"uninative,omitempty"`  // UNINATIVE_VERSION, when a board inherits uninative
	Buildtools []string `json:"buildtools,omitempty"` // of each tarball on PATH: see buildtools
}

func (b *Builder) versions(ctx context.Context, p *plan, boards []*Environment) (Versions, error) {
	pin, err := b.Pin(ctx)
	if err != nil {
		return Versions{}, err
	}
	v := Versions{Python: pin.Tools["python"], Host: pin.Tools["host"], Buildtools: buildtools(b.opt.Path)}
	for _, e := range boards {
		if e.Has("INHERIT", "uninative") {
			v.Uninative = e.Vars["UNINATIVE_VERSION"]
		}
	}
	v.BitBake, err = bitbakeVersion(p.BitBake)
	return v, err
}

// writeVersions leaves VersionsName in the folder of a build.
func (b *Builder) writeVersions(ctx context.Context, dir string, p *plan, boards []*Environment) error {
	v, err := b.versions(ctx, p, boards)
	if err != nil {
		return err
	}
	return errs.Wrap(writeFile(filepath.Join(dir, VersionsName), distro.CanonicalJSON(v)), "note the versions of a build's programs")
}

// buildtools names the tarballs of tools that folders of PATH are in: the folder of one
// holds version-<host> (toolchain_create_sdk_version of OE-Core's toolchain-scripts-base),
// of lines "Distro: poky", "Distro Version: 5.0.2", "Metadata Revision: ...". Those
// become "poky 5.0.2 (...)". A folder that is in none is no tarball, and not named.
func buildtools(path []string) []string {
	var out []string
	for _, folder := range path {
		dir := folder
		for range 5 { // <tarball>/sysroots/<host>/usr/bin
			dir = filepath.Dir(dir)
			found, err := filepath.Glob(filepath.Join(dir, "version-*"))
			if err != nil || len(found) == 0 {
				continue
			}
			data, err := os.ReadFile(found[0])
			if err != nil {
				continue
			}
			value := map[string]string{}
			for line := range strings.Lines(string(data)) {
				if k, v, ok := strings.Cut(line, ":"); ok {
					value[strings.TrimSpace(k)] = strings.TrimSpace(v)
				}
			}
			if value["Distro Version"] == "" {
				continue
			}
			name := strings.TrimSpace(value["Distro"] + " " + value["Distro Version"])
			if r := value["Metadata Revision"]; r != "" {
				name += " (" + r + ")"
			}
			out = append(out, name)
			break
		}
	}
	return out
}
