package component

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// PolicyID is the check's id in findings.
const PolicyID = "layer-policy"

// Question is what a layer is asked about.
type Question struct {
	Name    string // of the layer
	Dir     string // its folder
	Root    string // of its repository: README and licence may lie there; "" is Dir
	Release string // Yocto's; "" is not asked
	// Provided are the collections that the layers of the definition have; nil is not asked.
	Provided []string
}

// maxText is how much of a file is looked at, in bytes.
const maxText = 1 << 20

var (
	reCollection  = regexp.MustCompile(`(?m)^BBFILE_COLLECTIONS\s*[+:.]?=\s*"([^"]*)"`)
	reCompat      = regexp.MustCompile(`(?m)^LAYERSERIES_COMPAT_\S+?\s*[?:+.]*=\s*"([^"]*)"`)
	reDepends     = regexp.MustCompile(`(?m)^LAYERDEPENDS_\S+?\s*[?:+.]*=\s*"([^"]*)"`)
	reMaintainer  = regexp.MustCompile(`(?i)maintain`)
	reMail        = regexp.MustCompile(`[^\s<>@]+@[^\s<>@]+\.[a-z]{2,}|https?://\S+`)
	rePatches     = regexp.MustCompile(`(?i)patch|merge request|pull request|contribut`)
	reAutorev     = regexp.MustCompile(`\bAUTOREV\b|\bAUTOINC\b`)
	reParseNet    = regexp.MustCompile(`\b(urllib|urlopen|requests\.get|socket\.|http\.client)`)
	rePlainHTTP   = regexp.MustCompile(`SRC_URI.*\bhttp://|^\s*http://\S+\s*\\?$`)
	rePassword    = regexp.MustCompile(`EXTRA_USERS_PARAMS|useradd\s.*-p\s|usermod\s.*-p\s`)
	reOpen        = regexp.MustCompile(`debug-tweaks|allow-empty-password|empty-root-password|allow-root-login|root-login-with-empty-password`)
	rePrivate     = regexp.MustCompile(`-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----`)
	reGlobal      = regexp.MustCompile(`^\s*(DISTRO|MACHINE|DISTRO_FEATURES|IMAGE_INSTALL|IMAGE_FEATURES|EXTRA_IMAGE_FEATURES|INHERIT|USER_CLASSES|PACKAGE_CLASSES|PREFERRED_PROVIDER_\S+|PREFERRED_VERSION_\S+|SSTATE_MIRRORS|PREMIRRORS|MIRRORS|BB_HASHSERVE\S*|PRSERV_HOST)(?::\S+)?\s*[?:+.]*=`)
	reLicenseLine = regexp.MustCompile(`(?m)^LICENSE\s*[?:+.]*=`)
	reRequire     = regexp.MustCompile(`(?m)^(?:require|include|inherit)\s`)
)

// Collections gives the collections that a layer makes, from its layer.conf.
func Collections(dir string) []string {
	text, err := os.ReadFile(filepath.Join(dir, "conf", "layer.conf"))
	if err != nil {
		return nil
	}
	return allWords(reCollection, text)
}

func allWords(re *regexp.Regexp, text []byte) []string {
	var out []string
	for _, m := range re.FindAllSubmatch(text, -1) {
		out = append(out, strings.Fields(string(m[1]))...)
	}
	return out
}

// CheckLayer asks a layer by the policy. Findings have the file and line in their
// object; the order is that of the policy's page. The error is what kept it from looking.
func CheckLayer(ctx context.Context, q Question) ([]distro.Finding, error) {
	if q.Root == "" {
		q.Root = q.Dir
	}
	c := policy{q: q}
	text, err := os.ReadFile(filepath.Join(q.Dir, "conf", "layer.conf"))
	if err != nil {
		c.add("no-layer", distro.Block, "conf/layer.conf", "it is no layer: it has no conf/layer.conf", "name the folder of the layer in its repository as path")
		return c.out, nil
	}
	c.conf(text)
	c.documents()
	if err := c.files(ctx); err != nil {
		return nil, err
	}
	return c.out, nil
}

type policy struct {
	q   Question
	out []distro.Finding
}

func (c *policy) add(id string, level distro.Level, object, text, cure string) {
	c.out = append(c.out, distro.Finding{Check: PolicyID, ID: c.q.Name + ":" + id, Level: level, Object: object, Text: text, Cure: cure})
}

func (c *policy) conf(text []byte) {
	const file = "conf/layer.conf"
	if len(allWords(reCollection, text)) == 0 {
		c.add("collection", distro.Block, file, "BBFILE_COLLECTIONS names no collection", `BBFILE_COLLECTIONS += "mine", with BBFILE_PATTERN_mine and BBFILE_PRIORITY_mine`)
	}
	compat := allWords(reCompat, text)
	switch {
	case len(compat) == 0:
		c.add("series", distro.Block, file, "LAYERSERIES_COMPAT is not set: nobody has said for which releases the layer is", fmt.Sprintf("LAYERSERIES_COMPAT_<collection> = %q", c.q.Release))
	case c.q.Release != "" && !slices.Contains(compat, c.q.Release) && !slices.ContainsFunc(compat, func(s string) bool { return strings.Contains(s, "$") }):
		c.add("series", distro.Block, file, fmt.Sprintf("the layer is for %s, not for %s", strings.Join(compat, " "), c.q.Release), "take the layer's branch for the release, or bring it up to it")
	}
	depends := allWords(reDepends, text)
	if len(depends) == 0 && !slices.Contains(allWords(reCollection, text), "core") {
		c.add("depends", distro.Block, file, "LAYERDEPENDS is not set: nobody sees which layers it needs", `LAYERDEPENDS_<collection> = "core"`)
	}
	for _, d := range depends {
		name, _, _ := strings.Cut(d, ":") // "core:12" asks for a version
		if c.q.Provided != nil && !strings.HasPrefix(name, "$") && !slices.Contains(c.q.Provided, name) {
			c.add("needs-"+name, distro.Block, file, fmt.Sprintf("it depends on %s, which no layer of the definition is", name), "add the layer with that collection to slipway.yaml")
		}
	}
	for i, line := range strings.Split(string(text), "\n") {
		if m := reGlobal.FindStringSubmatch(line); m != nil {
			c.add("global-"+m[1], distro.Block, fmt.Sprintf("%s:%d", file, i+1), fmt.Sprintf("layer.conf sets %s: having the layer must change nothing, using it may", m[1]), "move it to a class, or to the distribution's conf")
		}
	}
}

// first finds a file by the beginnings of its name, in the layer or at its repository's root.
func (c *policy) first(names ...string) (path, text string) {
	for _, dir := range []string{c.q.Dir, c.q.Root} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			for _, n := range names {
				if strings.HasPrefix(strings.ToUpper(e.Name()), n) && e.Type().IsRegular() {
					data, err := readSome(filepath.Join(dir, e.Name()))
					if err == nil {
						return e.Name(), string(data)
					}
				}
			}
		}
	}
	return "", ""
}

func (c *policy) documents() {
	name, text := c.first("README")
	switch {
	case name == "":
		c.add("readme", distro.Block, "README", "there is no README", "say what the layer is for, who maintains it, which layers it needs, and how to send patches")
	default:
		if m, _ := c.first("MAINTAINERS", "CODEOWNERS"); !reMaintainer.MatchString(text) && m == "" {
			c.add("maintainer", distro.Block, name, "it names no maintainer", "a line Maintainer: Name <mail>")
		} else if m == "" && !reMail.MatchString(text) {
			c.add("maintainer", distro.Block, name, "it gives no address of a maintainer", "a line Maintainer: Name <mail>")
		}
		if m, _ := c.first("CONTRIBUTING"); !rePatches.MatchString(text) && m == "" {
			c.add("patches", distro.Warn, name, "it does not say how to send patches", "name the list, or the place of merge requests")
		}
	}
	if name, _ := c.first("LICENSE", "LICENCE", "COPYING"); name == "" {
		if dirs, _ := filepath.Glob(filepath.Join(c.q.Root, "LICENSES", "*")); len(dirs) == 0 {
			c.add("license", distro.Block, "LICENSE", "there is no licence for the layer's own files", "add LICENSE or COPYING.MIT: most layers are MIT")
		}
	}
	if name, _ := c.first("SECURITY"); name == "" {
		c.add("security", distro.Warn, "SECURITY.md", "it does not say how to report a vulnerability", "add SECURITY.md with an address")
	}
}

func (c *policy) files(ctx context.Context) error {
	return filepath.WalkDir(c.q.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return errs.E(errs.Unavailable, "read "+path, err)
		}
		if e.Name() == ".git" && path != c.q.Dir {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(c.q.Dir, path)
		if err != nil || !e.Type().IsRegular() {
			return ctx.Err()
		}
		data, err := readSome(path)
		if err != nil {
			return errs.E(errs.Unavailable, "read "+path, err)
		}
		if m := rePrivate.FindIndex(data); m != nil {
			c.add("private-key", distro.Block, place(rel, data, m[0]), "a private key: everybody who has the layer has it", "make keys on the device, or give the key to the build from outside")
		}
		switch filepath.Ext(path) {
		case ".bb", ".bbappend", ".inc", ".bbclass", ".conf":
			c.metadata(rel, data)
		}
		return ctx.Err()
	})
}

// metadata looks at a file of BitBake's language, line by line, comments aside.
func (c *policy) metadata(rel string, data []byte) {
	recipe := filepath.Ext(rel) == ".bb"
	if recipe && !reLicenseLine.Match(data) && !reRequire.Match(data) {
		c.add("recipe-license", distro.Block, rel, "the recipe has no LICENSE", "LICENSE, by SPDX's names, and LIC_FILES_CHKSUM")
	}
	inTask := false
	for i, line := range strings.Split(string(data), "\n") {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "#") {
			continue
		}
		at := fmt.Sprintf("%s:%d", rel, i+1)
		// What a task does, it may; the rest of a file is read by every build, at parse time.
		if strings.Contains(line, "do_") && strings.HasSuffix(trimmed, "{") {
			inTask = true
		} else if line == "}" {
			inTask = false
		}
		if reAutorev.MatchString(line) {
			c.add("autorev", distro.Block, at, "the source is whatever is newest when it is built", "pin SRCREV to a commit")
		}
		if !inTask && reParseNet.MatchString(line) {
			c.add("parse-network", distro.Block, at, "it asks the network while it is parsed", "fetch by SRC_URI")
		}
		if rePlainHTTP.MatchString(line) {
			c.add("plain-http", distro.Warn, at, "a source comes by http without TLS", "https")
		}
		if rePassword.MatchString(line) {
			c.add("password", distro.Block, at, "a user's password is the same on every device", "let the first boot make it (docs/first-boot.md)")
		}
		if reOpen.MatchString(line) && !strings.HasPrefix(rel, "docs/") {
			c.add("open-door", distro.Block, at, "it opens images to everybody", "take it out: it is for a developer's own local.conf")
		}
	}
}

func place(rel string, data []byte, offset int) string {
	return fmt.Sprintf("%s:%d", rel, 1+strings.Count(string(data[:offset]), "\n"))
}

// readSome reads the beginning of a file.
func readSome(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, maxText)
	n := 0
	for n < len(data) {
		k, err := f.Read(data[n:])
		n += k
		if err != nil {
			break
		}
	}
	return data[:n], nil
}
