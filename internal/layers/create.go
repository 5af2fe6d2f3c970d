package layers

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"slipway/internal/errs"
)

// Commit is one commit of a repository that [CreateRepo] makes.
type Commit struct {
	Message string
	Author  string // "Name <mail>"
	Date    time.Time
	Files   map[string][]byte      // slash-separated path -> content, beside what the commit before has
	Modes   map[string]fs.FileMode // executables (any x bit); all others are plain files
	Delete  []string
	Tag     string // lightweight; "" for none
}

// CreateRepo makes a git repository in dir, which must be absent or empty, with
// branch main. Its commits have the same ids everywhere: nothing of the user's
// configuration, clock or umask goes into them. main (and the work tree) stands
// at the first commit; the later ones are reached by their tags, so that a user
// goes on with git merge --ff-only <tag>. It is all there or not at all.
func CreateRepo(ctx context.Context, dir string, commits []Commit) error {
	if len(commits) == 0 {
		return errs.E(errs.Internal, "a repository without commits")
	}
	stream, err := importStream(commits)
	if err != nil {
		return err
	}
	return replace(dir, func(tmp string) error {
		if _, err := (program{isolated: true}).run(ctx, "init", "-q", "--template=", "-b", "main", tmp); err != nil {
			return err
		}
		repo := program{dir: tmp, isolated: true, stdin: bytes.NewReader(stream)}
		if _, err := repo.run(ctx, "-c", "core.autocrlf=false", "fast-import", "--quiet", "--done"); err != nil {
			return err
		}
		repo.stdin = nil
		_, err := repo.run(ctx, "-c", "core.autocrlf=false", "reset", "-q", "--hard", "main")
		return err
	})
}

// importStream words the commits for git fast-import (git-fast-import(1)).
func importStream(commits []Commit) ([]byte, error) {
	var b bytes.Buffer
	data := func(p []byte) {
		fmt.Fprintf(&b, "data %d\n", len(p))
		b.Write(p)
		b.WriteByte('\n')
	}
	b.WriteString("feature done\n")
	for i, c := range commits {
		if c.Message == "" || !strings.Contains(c.Author, " <") || !strings.HasSuffix(c.Author, ">") || strings.ContainsAny(c.Author, "\n\x00") {
			return nil, errs.Ef(errs.Internal, "commit %d needs a message and an author \"Name <mail>\"", i+1)
		}
		if i == 0 {
			b.WriteString("commit refs/heads/main\n")
		} else {
			b.WriteString("commit refs/slipway/import\n")
		}
		who := fmt.Sprintf("%s %d +0000", c.Author, c.Date.Unix())
		fmt.Fprintf(&b, "mark :%d\nauthor %s\ncommitter %s\n", i+1, who, who)
		data([]byte(strings.TrimRight(c.Message, "\n") + "\n"))
		if i > 0 {
			fmt.Fprintf(&b, "from :%d\n", i)
		}
		gone := slices.Clone(c.Delete)
		sort.Strings(gone)
		for _, p := range gone {
			if err := safePath(p); err != nil {
				return nil, err
			}
			b.WriteString("D " + importPath(p) + "\n")
		}
		for _, p := range sortedKeys(c.Files) {
			if err := safePath(p); err != nil {
				return nil, err
			}
			mode := "100644"
			if c.Modes[p]&0o111 != 0 {
				mode = "100755"
			}
			fmt.Fprintf(&b, "M %s inline %s\n", mode, importPath(p))
			data(c.Files[p])
		}
		if c.Tag != "" {
			fmt.Fprintf(&b, "reset refs/tags/%s\nfrom :%d\n\n", c.Tag, i+1)
		}
	}
	if len(commits) > 1 {
		// What no tag reaches goes with this name.
		b.WriteString("reset refs/slipway/import\nfrom 0000000000000000000000000000000000000000\n\n")
	}
	b.WriteString("done\n")
	return b.Bytes(), nil
}

// importPath quotes as fast-import reads it.
func importPath(p string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(p) + `"`
}

// safePath refuses what would not stay within a work tree, or reaches git's own
// files.
func safePath(p string) error {
	bad := !filepath.IsLocal(p) || p == "." || strings.ContainsRune(p, 0)
	for _, part := range strings.Split(p, "/") {
		if part == "" || part == "." || part == ".." || strings.EqualFold(part, ".git") {
			bad = true
		}
	}
	if bad {
		return errs.E(errs.Denied, fmt.Sprintf("file name %q leaves the folder", p))
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
