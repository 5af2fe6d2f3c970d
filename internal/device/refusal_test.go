package device

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/feed"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
)

var update = flag.Bool("update", false, "write the table of docs/device-program.md")

// What a client does.
const (
	refuses = "refuses"
	accepts = "accepts"
	halfway = "stops halfway" // refuses the package, when others are installed already
)

// An attack is something done to the feed. Each client then updates, with the feed
// as only source, and the table says what it must do: README's claims are these.
type attack struct {
	name string
	// evil publishes release 1.2 wrongly; nil publishes it as it should be.
	evil *evil
	// spoil changes the finished publication, or the day.
	spoil func(t *testing.T, b *bed)
	// What plain dnf, plain zypper, and slipway-device with either do, and with what code.
	dnf, zypper, device string
	code                int
	// pointer: only slipway-device looks there, before it asks dnf or zypper.
	pointer bool
}

// evil is a publisher who holds the metadata key, and what is wrong with libknot.
type evil struct {
	unsigned bool
	key      *sign.Key                        // signs libknot; nil is the right one
	tamper   func(rpm []byte, p *rpm.Package) // changes libknot after it was signed
}

func both(name string, change func(t *testing.T, b *bed, path string)) func(*testing.T, *bed) {
	return func(t *testing.T, b *bed) {
		for _, dir := range []string{"1/current", "1/snapshots/2"} {
			found, err := filepath.Glob(filepath.Join(b.pub, dir, "noarch/repodata", name))
			if err != nil || len(found) == 0 {
				t.Fatalf("no %s in %s", name, dir)
			}
			for _, f := range found {
				change(t, b, f)
			}
		}
	}
}

func flip(t *testing.T, path string, at func(size int) int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at(len(data))] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func foreignKey(t *testing.T) *sign.Key {
	k, err := sign.Generate(sign.Options{Name: "Somebody else", Created: start})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func attacks(t *testing.T) []attack {
	return []attack{
		{name: "nothing is wrong", dnf: accepts, zypper: accepts, device: accepts},
		{name: "tampered package", dnf: refuses, zypper: halfway, device: refuses, code: 43, spoil: func(t *testing.T, b *bed) {
			flip(t, filepath.Join(b.pub, "1/pool/rpm/noarch/1/libknot-1.1-1.noarch.rpm"), func(n int) int { return n - 100 })
		}},
		{name: "tampered payload in signed metadata", dnf: refuses, zypper: halfway, device: refuses, code: 43,
			evil: &evil{tamper: func(b []byte, p *rpm.Package) { b[len(b)-100] ^= 1 }}},
		{name: "tampered header in signed metadata", dnf: refuses, zypper: halfway, device: refuses, code: 43,
			evil: &evil{tamper: func(b []byte, p *rpm.Package) {
				i := bytes.Index(b[p.HeaderStart:p.HeaderEnd], []byte("MIT"))
				copy(b[int(p.HeaderStart)+i:], "BSD")
			}}},
		{name: "tampered primary.xml", dnf: refuses, zypper: refuses, device: refuses, code: 43,
			spoil: both("*-primary.xml*", func(t *testing.T, b *bed, path string) { flip(t, path, func(n int) int { return n / 2 }) })},
		{name: "tampered repomd.xml", dnf: refuses, zypper: refuses, device: refuses, code: 43,
			spoil: both("repomd.xml", func(t *testing.T, b *bed, path string) { flip(t, path, func(n int) int { return n / 2 }) })},
		{name: "repomd.xml without signature", dnf: refuses, zypper: refuses, device: refuses, code: 43,
			spoil: both("repomd.xml.asc", func(t *testing.T, b *bed, path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			})},
		{name: "repomd.xml signed by a foreign key", dnf: refuses, zypper: refuses, device: refuses, code: 43,
			spoil: both("repomd.xml", func(t *testing.T, b *bed, path string) {
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				sig, err := foreignKey(t).Sign(t.Context(), bytes.NewReader(data), start)
				if err == nil {
					err = os.WriteFile(path+".asc", sign.Armor(sig), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			})},
		{name: "unsigned package in signed metadata", dnf: refuses, zypper: accepts, device: refuses, code: 43, evil: &evil{unsigned: true}},
		{name: "package signed by a foreign key in signed metadata", dnf: refuses, zypper: accepts, device: refuses, code: 43, evil: &evil{key: foreignKey(t)}},
		{name: "an old publication replayed", dnf: accepts, zypper: accepts, device: refuses, code: 41, spoil: func(t *testing.T, b *bed) {
			b.must("check") // 1.2 was seen
			b.sh("rm", "-rf", b.pub)
			b.sh("cp", "-a", b.w.first, b.pub)
		}},
		{name: "an old repomd.xml in the newest snapshot", dnf: accepts, zypper: accepts, device: refuses, code: 43, spoil: func(t *testing.T, b *bed) {
			for _, dir := range []string{"1/current", "1/snapshots/2"} {
				b.sh("rm", "-rf", filepath.Join(b.pub, dir, "noarch"))
				b.sh("cp", "-a", filepath.Join(b.w.first, "1/snapshots/1/noarch"), filepath.Join(b.pub, dir, "noarch"))
			}
		}},
		{name: "the feed frozen for longer than a pointer's life", dnf: accepts, zypper: accepts, device: refuses, pointer: true, code: 42, spoil: func(t *testing.T, b *bed) {
			b.now = start.AddDate(0, 2, 0)
		}},
		{name: "a tampered pointer", dnf: accepts, zypper: accepts, device: refuses, pointer: true, code: 43, spoil: func(t *testing.T, b *bed) {
			flip(t, filepath.Join(b.pub, "1/timestamp.json"), func(n int) int { return n / 2 })
		}},
		{name: "the device's clock before the release was made", dnf: accepts, zypper: accepts, device: refuses, pointer: true, code: 44, spoil: func(t *testing.T, b *bed) {
			b.now = time.Unix(0, 0)
		}},
	}
}

// publishEvil publishes release 1.2 onto release 1.1 as an attacker would who
// holds the metadata key and not the package key.
func (b *bed) publishEvil(e *evil) {
	t := b.t
	b.sh("rm", "-rf", b.pub)
	b.sh("cp", "-a", b.w.first, b.pub)
	tree, err := store.OpenTree(b.pub)
	if err != nil {
		t.Fatal(err)
	}
	p := &feed.Publisher{Tree: tree, Layout: feed.Layout{Series: "1"}, Distribution: "halyard", Title: "Halyard", Package: b.w.key, Metadata: b.w.key, Scopes: []string{"noarch"}}
	at := start.Add(2 * time.Hour)
	var mine []distro.PackageRecord
	for _, path := range b.w.built[1] {
		r, data := record(t, path)
		name := p.Layout.Pool("noarch", feed.KeyEpoch, r.File)
		if r.Name == "libknot" && e.unsigned {
			err = tree.Create(t.Context(), name, bytes.NewReader(data))
		} else {
			if p.Package = b.w.key; r.Name == "libknot" && e.key != nil {
				p.Package = e.key
			}
			r, err = p.AddPackage(t.Context(), r, bytes.NewReader(data), int64(len(data)), at)
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Name == "libknot" && e.tamper != nil {
			file := filepath.Join(b.pub, name)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			pkg, err := rpm.Read(bytes.NewReader(data), int64(len(data)), name)
			if err != nil {
				t.Fatal(err)
			}
			e.tamper(data, pkg)
			os.Chmod(file, 0o644)
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
			r.Digest, r.HeaderDigest = distro.DigestOf(data), distro.DigestOf(data[pkg.HeaderStart:pkg.HeaderEnd])
		}
		mine = append(mine, r)
	}
	// Another process makes the indexes: it reads what lies in the pool now.
	p = &feed.Publisher{Tree: tree, Layout: p.Layout, Distribution: p.Distribution, Title: p.Title, Package: b.w.key, Metadata: b.w.key, Scopes: p.Scopes}
	all := feed.Union(b.w.before, mine)
	ed := feed.Edition{Serial: 2, Release: "1.2", At: at, Index: feed.Newest(all), History: all}
	s, err := p.WriteSnapshot(t.Context(), ed)
	if err == nil {
		err = p.Switch(t.Context(), ed, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.sh("chmod", "-R", "u+w", b.pub)
}

// plain runs dnf or zypper by themselves on the feed "current", as an admin would
// without slipway-device, and gives how it ended.
func (b *bed) plain(frontend string) (string, error) {
	d := b.open()
	d.conf.Frontend = frontend
	if err := d.writeFeeds(2); err != nil {
		b.t.Fatal(err)
	}
	repo := stateDir + "/repos.d/slipway.repo"
	text, err := os.ReadFile(d.path(repo))
	if err != nil {
		b.t.Fatal(err)
	}
	b.file("root", repo, strings.ReplaceAll(string(text), "/snapshots/2/", "/current/"))
	ctx := context.Background()
	if frontend == "dnf" {
		return d.run(ctx, false, dnf{d}.args("upgrade", "--refresh")...)
	}
	if out, err := d.rpm(ctx, append([]string{"--import"}, d.keyFiles()...)...); err != nil {
		b.t.Fatalf("%v %s", err, out)
	}
	out, err := d.run(ctx, false, zypper{d}.args("refresh", "--force")...)
	if err == nil {
		var more string
		more, err = d.run(ctx, false, zypper{d}.args("--no-refresh", "dup")...)
		out += more
	}
	return out, err
}

// What a client says when it refuses for the sake of a signature or a digest, and
// not because something else went wrong.
var why = regexp.MustCompile(`(?i)checksum|digest|signature|not signed|GPG|corrupt|Failed to download metadata|Failed to cache|wrong|retrieve new repository metadata|replayed|frozen|clock|is not what`)

// verdict tells what a client did with release 1.2 on offer.
func (b *bed) verdict(out string, failed bool) string {
	b.t.Helper()
	if !failed {
		return accepts
	}
	result := refuses
	if b.packages() != content[1] {
		result = halfway
	}
	if !why.MatchString(out) {
		b.t.Errorf("failed for another reason:\n%s", out)
	}
	return result
}

// The short form leaves out what zypper does as dnf does, and what no client but
// slipway-device looks at.
func TestWhatClientsRefuse(t *testing.T) {
	t.Parallel()
	full := os.Getenv("SLIPWAY_TEST") == "full"
	table := "| done to the feed | dnf | zypper | slipway-device | exit code |\n| --- | --- | --- | --- | --- |\n"
	for _, c := range attacks(t) {
		code := fmt.Sprint(c.code)
		table += fmt.Sprintf("| %s | %s | %s | %s | %s |\n", c.name, c.dnf, c.zypper, c.device, code)
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			prepare := func(t *testing.T) *bed {
				b := newBed(t)
				if c.evil != nil {
					b.publishEvil(c.evil)
				}
				if c.spoil != nil {
					c.spoil(t, b)
				}
				return b
			}
			for frontend, want := range map[string]string{"dnf": c.dnf, "zypper": c.zypper} {
				if !full && (c.pointer || frontend == "zypper" && c.zypper == c.dnf) {
					continue
				}
				b := prepare(t)
				out, err := b.plain(frontend)
				if got := b.verdict(out, err != nil); got != want {
					t.Errorf("%s %s, want %s\n%s", frontend, got, want, out)
				}
			}
			for _, frontend := range []string{"dnf", "zypper"} {
				if !full && frontend == "zypper" && c.zypper == c.dnf {
					continue
				}
				b := prepare(t)
				b.file("root", "etc/slipway-device.conf", "frontend = "+frontend+"\n")
				code, out := b.device("update")
				if got := b.verdict(out, code != 0); got != c.device || code != c.code {
					t.Errorf("slipway-device with %s %s (exit code %d), want %s (%d)\n%s", frontend, got, code, c.device, c.code, out)
				}
				if c.code > 0 && exists(filepath.Join(b.root, journalFile)) {
					t.Errorf("slipway-device with %s left a journal", frontend)
				}
			}
		})
	}
	page := "../../docs/device-program.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		_, rest, _ := strings.Cut(string(text), "| done to the feed |")
		old := "| done to the feed |" + rest[:strings.Index(rest, "\n\n")+1]
		if err := os.WriteFile(page, []byte(strings.Replace(string(text), old, table, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !strings.Contains(string(text), table) {
		t.Errorf("the table of %s is another one: go test ./internal/device -run TestWhatClientsRefuse -update", page)
	}
}
