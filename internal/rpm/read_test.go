package rpm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// dumpFormat is the query format whose answer [dump] must equal.
var dumpFormat = strings.Join([]string{
	`%{NAME}|%{EPOCH}|%{VERSION}|%{RELEASE}|%{SOURCERPM}|%{SUMMARY}|%{LICENSE}|%{VENDOR}|%{GROUP}|%{URL}|%{PACKAGER}|%{BUILDHOST}|%{DISTRIBUTION}|%{BUILDTIME}|`,
	`%{LONGSIZE}|%{ARCHIVESIZE}|%{PAYLOADFORMAT}|%{PAYLOADCOMPRESSOR}|%{PAYLOADDIGEST}|%{PAYLOADDIGESTALGO}|%{SHA256HEADER}\n%{DESCRIPTION}\n`,
	`[PROVIDE %{PROVIDENAME}|%{PROVIDEFLAGS}|%{PROVIDEVERSION}\n][REQUIRE %{REQUIRENAME}|%{REQUIREFLAGS}|%{REQUIREVERSION}\n]`,
	`[CONFLICT %{CONFLICTNAME}|%{CONFLICTFLAGS}|%{CONFLICTVERSION}\n][OBSOLETE %{OBSOLETENAME}|%{OBSOLETEFLAGS}|%{OBSOLETEVERSION}\n]`,
	`[RECOMMEND %{RECOMMENDNAME}|%{RECOMMENDFLAGS}|%{RECOMMENDVERSION}\n][SUGGEST %{SUGGESTNAME}|%{SUGGESTFLAGS}|%{SUGGESTVERSION}\n]`,
	`[SUPPLEMENT %{SUPPLEMENTNAME}|%{SUPPLEMENTFLAGS}|%{SUPPLEMENTVERSION}\n][ENHANCE %{ENHANCENAME}|%{ENHANCEFLAGS}|%{ENHANCEVERSION}\n]`,
	`[FILE %{FILENAMES}|%{FILEMODES}|%{LONGFILESIZES}|%{FILEMTIMES}|%{FILEDIGESTS}|%{FILELINKTOS}|%{FILEFLAGS}|%{FILEUSERNAME}|%{FILEGROUPNAME}|%{FILERDEVS}|%{FILEINODES}\n]`,
	`[CAPS %{FILECAPS}\n][CHANGE %{CHANGELOGTIME}|%{CHANGELOGNAME}|%{CHANGELOGTEXT}\n]`,
}, "")

func dump(p *Package) string {
	var b strings.Builder
	none := func(s string) string {
		if s == "" {
			return "(none)"
		}
		return s
	}
	epoch := "(none)"
	if p.HasEpoch {
		epoch = fmt.Sprint(p.Epoch)
	}
	fmt.Fprintf(&b, "%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%d|", p.Name, epoch, p.Version, p.Release, none(p.SourceRPM), p.Summary, p.License,
		none(p.Vendor), none(p.Group), none(p.URL), none(p.Packager), p.BuildHost, none(p.Distribution), p.BuildTime)
	fmt.Fprintf(&b, "%d|%d|%s|%s|%s|%d|%s\n%s\n", p.InstalledSize, p.ArchiveSize, p.PayloadFormat, none(p.PayloadCompressor), p.PayloadDigest, p.PayloadDigestAlgo, p.HeaderDigest.Hex(), p.Description)
	deps := func(what string, d []Dep) {
		for _, d := range d {
			fmt.Fprintf(&b, "%s %s|%d|%s\n", what, d.Name, d.Flags, d.EVR)
		}
	}
	deps("PROVIDE", p.Provides)
	deps("REQUIRE", p.Requires)
	deps("CONFLICT", p.Conflicts)
	deps("OBSOLETE", p.Obsoletes)
	deps("RECOMMEND", p.Recommends)
	deps("SUGGEST", p.Suggests)
	deps("SUPPLEMENT", p.Supplements)
	deps("ENHANCE", p.Enhances)
	caps := false
	for _, f := range p.Files {
		fmt.Fprintf(&b, "FILE %s|%d|%d|%d|%s|%s|%d|%s|%s|%d|%d\n", f.Path, f.Mode, f.Size, f.MTime, f.Digest, f.Link, f.Flags, f.User, f.Group, f.Rdev, f.Inode)
		caps = caps || f.Caps != ""
	}
	for _, f := range p.Files {
		if caps {
			fmt.Fprintf(&b, "CAPS %s\n", f.Caps)
		}
	}
	for _, c := range p.Changelogs {
		fmt.Fprintf(&b, "CHANGE %d|%s|%s\n", c.Time, c.Author, c.Text)
	}
	return b.String()
}

// payloads are the compressions that are told apart.
var payloads = []string{"w9.gzdio", "w2.xzdio", "w3.zstdio", "w9.bzdio", "w.ufdio"}

func TestReadAsRPMDoes(t *testing.T) {
	t.Parallel()
	for _, payload := range payloads {
		for _, path := range build(t, "rich", payload) {
			t.Run(payload+"/"+filepath.Base(path), func(t *testing.T) {
				t.Parallel()
				p, err := ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(run(t, "rpm", "--dbpath", t.TempDir(), "-qp", "--qf", dumpFormat, path), dump(p)); diff != "" {
					t.Errorf("rpm, we:\n%s", diff)
				}
				b := load(t, path)
				if p.Digest != distro.DigestOf(b) || p.Size != int64(len(b)) || distro.DigestOf(b[p.HeaderStart:p.HeaderEnd]) != p.HeaderDigest {
					t.Error("digests or sizes are wrong")
				}
				if err := Verify(bytes.NewReader(b), int64(len(b)), path); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestScriptsAndTriggers(t *testing.T) {
	t.Parallel()
	p, err := ReadFile(pick(t, build(t, "rich", "w9.gzdio"), "rich-1"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range p.Scripts {
		fmt.Fprintf(&b, "%s|%s|%s|%d|%d", s.Kind, s.Interp, strings.TrimSpace(s.Body), s.Flags, s.Priority)
		for _, d := range s.On {
			fmt.Fprintf(&b, "|%s", contentDep(d))
		}
		b.WriteString("\n")
	}
	want := `pretrans|<lua>|print("hello")|0|0
pre|/bin/sh|echo pre|0|0
post|/bin/true||0|0
posttrans|/bin/sh|echo posttrans|0|0
preun|/bin/sh|echo preun $1|0|0
postun|/bin/sh|echo %{name}|1|0
verify|/bin/sh|echo verify|0|0
triggerin|/bin/sh|echo triggerin|0|0|other > 1.0|third
triggerun|/bin/bash|echo triggerun|0|0|other
filetriggerin|/bin/sh|echo filetrigger|0|2000|/usr/lib|/usr/share
transfiletriggerpostun|/bin/sh|echo transfiletrigger|0|1000000|/usr/share/icons
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("want, got:\n%s", diff)
	}
}

func TestSourcePackage(t *testing.T) {
	t.Parallel()
	p, err := ReadFile(pick(t, build(t, "rich", "w9.gzdio"), "rich-1.0~rc1-3.src"))
	if err != nil {
		t.Fatal(err)
	}
	if p.NEVRA() != "rich-2:1.0~rc1-3.src" || !p.Source || len(p.Files) != 1 || p.Files[0].Path != "rich.spec" {
		t.Errorf("%s source %v files %v", p.NEVRA(), p.Source, p.Files)
	}
}

func TestReadFileErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := ReadFile(filepath.Join(dir, "missing.rpm")); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if _, err := ReadFile(dir); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	empty := filepath.Join(dir, "empty.rpm")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(empty); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "empty.rpm: truncated in the lead") {
		t.Error(err)
	}
}
