package rpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Read reads the headers of the RPM file r of size bytes; name stands for it in
// messages. The payload is not read and nothing is verified but form: see
// [Verify]. Everything of the Package is set but Digest. Errors are Invalid for
// an unsound file, Unavailable when r fails.
func Read(r io.ReaderAt, size int64, name string) (*Package, error) {
	l, err := readLayout(r, size, name)
	if err != nil {
		return nil, err
	}
	return fill(l, name)
}

// ReadFile reads the headers as [Read] does, and the whole file once more for
// Digest.
func ReadFile(path string) (*Package, error) {
	f, err := os.Open(path)
	if err != nil {
		kind := errs.Unavailable
		if os.IsNotExist(err) {
			kind = errs.NotFound
		}
		return nil, errs.E(kind, "open package", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, errs.E(errs.Unavailable, "open package", err)
	}
	if !st.Mode().IsRegular() {
		return nil, errs.E(errs.Invalid, path+" is no regular file")
	}
	p, err := Read(f, st.Size(), path)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+path, err)
	}
	if n != p.Size {
		return nil, errs.E(errs.Conflict, fmt.Sprintf("%s changed while it was read: %d bytes, then %d", path, p.Size, n))
	}
	p.Digest = distro.DigestFromSum(h.Sum(nil))
	return p, nil
}

func fill(l *layout, name string) (*Package, error) {
	h := l.main
	p := &Package{
		Name: h.str(tagName), Version: h.str(tagVersion), Release: h.str(tagRelease), Arch: h.str(tagArch),
		Epoch: int(h.integer(tagEpoch)), HasEpoch: h.has(tagEpoch),
		SourceRPM: h.str(tagSourceRPM), Source: !h.has(tagSourceRPM), // as rpm tells them apart
		Summary: h.str(tagSummary), Description: h.str(tagDescription), License: h.str(tagLicense),
		Vendor: h.str(tagVendor), Group: h.str(tagGroup), URL: h.str(tagURL), Packager: h.str(tagPackager),
		BuildHost: h.str(tagBuildHost), Distribution: h.str(tagDistribution), BuildTime: h.integer(tagBuildTime),
		InstalledSize: h.integer(tagLongSize, tagSize),
		ArchiveSize:   l.sig.integer(sigLongArchiveSize, sigPayloadSize),
		PayloadFormat: h.str(tagPayloadFormat), PayloadCompressor: h.str(tagPayloadCompr),
		PayloadDigest: h.str(tagPayloadDigest), PayloadDigestAlgo: int(h.integer(tagPayloadDigAlgo)),
		FileDigestAlgo: int(h.integer(tagFileDigestAlgo)),
		Size:           l.size, HeaderStart: h.start, HeaderEnd: h.end(), HeaderDigest: distro.DigestOf(h.raw),
	}
	if p.ArchiveSize == 0 {
		p.ArchiveSize = h.integer(tagArchiveSize)
	}
	if p.FileDigestAlgo == 0 {
		p.FileDigestAlgo = 1 // md5: the tag is younger than its meaning
	}
	if p.Source {
		p.Arch = "src"
		if h.has(tagNoSource) || h.has(tagNoPatch) {
			p.Arch = "nosrc"
		}
	}
	// These become file names and lines of other formats.
	for _, w := range [][2]string{{"name", p.Name}, {"version", p.Version}, {"release", p.Release}, {"arch", p.Arch}} {
		what, s := w[0], w[1]
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) || s[0] == '.' {
			return nil, damaged(name, "main header: the %s of the package is %q", what, s)
		}
	}
	t := &table{h: h, name: name}
	p.Provides = t.deps(provideTags)
	p.Requires = t.deps(requireTags)
	p.Conflicts = t.deps(conflictTags)
	p.Obsoletes = t.deps(obsoleteTags)
	p.Recommends = t.deps(recommendTags)
	p.Suggests = t.deps(suggestTags)
	p.Supplements = t.deps(supplementTags)
	p.Enhances = t.deps(enhanceTags)
	p.Files = t.files()
	p.Changelogs = t.changelogs()
	p.Scripts = t.scripts()
	if t.err != nil {
		return nil, t.err
	}
	var err error
	p.Signatures, err = signatures(l.sig, name)
	return p, err
}

// table reads tags that are columns of one table. The first column decides how
// many rows there are; the first mistake stays in err.
type table struct {
	h    *header
	name string
	err  error
}

func (t *table) fail(format string, args ...any) {
	if t.err == nil {
		t.err = damaged(t.name, "main header: %s", fmt.Sprintf(format, args...))
	}
}

// strs gives a column of n strings. A column that is not required may be
// missing: it is then n empty ones.
func (t *table) strs(tag uint32, n int, required bool) []string {
	v := t.h.strings(tag)
	if len(v) != n {
		if v != nil || required {
			t.fail("tag %d has %d values where %d belong", tag, len(v), n)
		}
		v = make([]string, n)
	}
	return v
}

// ints is strs for numbers.
func (t *table) ints(tag uint32, n int, required bool) []uint64 {
	v := t.h.ints(tag)
	if len(v) != n {
		if v != nil || required {
			t.fail("tag %d has %d values where %d belong", tag, len(v), n)
		}
		v = make([]uint64, n)
	}
	return v
}

func (t *table) deps(tags depTags) []Dep {
	names := t.h.strings(tags.name)
	if names == nil {
		return nil
	}
	versions, flags := t.strs(tags.version, len(names), true), t.ints(tags.flags, len(names), true)
	out := make([]Dep, len(names))
	for i := range out {
		out[i] = Dep{Name: names[i], Flags: uint32(flags[i]), EVR: versions[i]}
	}
	return out
}

// Paths are joined from folder and name, so a small header can claim very many
// bytes of paths: more than this, or than maxPathRatio times the header, is refused.
const (
	maxPath      = 4096
	maxPathRatio = 16
)

func (t *table) files() []File {
	bases := t.h.strings(tagBasenames)
	if bases == nil {
		return nil
	}
	n := len(bases)
	dirs, dirIndex := t.h.strings(tagDirnames), t.ints(tagDirIndexes, n, true)
	sizeTag := uint32(tagFileSizes)
	if t.h.has(tagLongFileSizes) {
		sizeTag = tagLongFileSizes
	}
	sizes, modes, mtimes := t.ints(sizeTag, n, true), t.ints(tagFileModes, n, true), t.ints(tagFileMTimes, n, true)
	flags, rdevs, inodes := t.ints(tagFileFlags, n, true), t.ints(tagFileRdevs, n, false), t.ints(tagFileInodes, n, false)
	digests, links := t.strs(tagFileDigests, n, false), t.strs(tagFileLinkTos, n, false)
	users, groups, caps := t.strs(tagFileUserName, n, true), t.strs(tagFileGroupName, n, true), t.strs(tagFileCaps, n, false)
	if t.err != nil {
		return nil
	}
	out := make([]File, n)
	room := maxPathRatio * len(t.h.raw)
	for i := range out {
		if dirIndex[i] >= uint64(len(dirs)) {
			t.fail("file %d lies in folder %d of %d", i, dirIndex[i], len(dirs))
			return nil
		}
		dir := dirs[dirIndex[i]]
		length := len(dir) + len(bases[i])
		if room -= length; room < 0 || length > maxPath {
			t.fail("file %d: the paths are too long", i)
			return nil
		}
		out[i] = File{Path: dir + bases[i], Mode: uint32(modes[i]), Size: int64(sizes[i]), MTime: int64(mtimes[i]),
			Digest: digests[i], Link: links[i], Flags: uint32(flags[i]), User: users[i], Group: groups[i], Caps: caps[i],
			Rdev: uint32(rdevs[i]), Inode: uint32(inodes[i])}
		if out[i].Size < 0 {
			t.fail("%q has %d bytes", out[i].Path, sizes[i])
			return nil
		}
	}
	return out
}

func (t *table) changelogs() []Changelog {
	times := t.h.ints(tagChangelogTime)
	if times == nil {
		return nil
	}
	names, texts := t.strs(tagChangelogName, len(times), true), t.strs(tagChangelogText, len(times), true)
	out := make([]Changelog, len(times))
	for i := range out {
		out[i] = Changelog{Time: int64(times[i]), Author: names[i], Text: texts[i]}
	}
	return out
}

func (t *table) scripts() []Script {
	var out []Script
	for _, s := range scriptTags {
		if t.h.has(s.body) || t.h.has(s.prog) {
			out = append(out, Script{Kind: s.kind, Interp: strings.Join(t.h.strings(s.prog), " "), Body: t.h.str(s.body),
				Flags: uint32(t.h.integer(s.flags))})
		}
	}
	for _, g := range triggerTags {
		bodies := t.h.strings(g.scripts)
		if bodies == nil {
			continue
		}
		n := len(bodies)
		progs, flags := t.strs(g.prog, n, true), t.ints(g.scriptFlags, n, false)
		priorities := make([]uint64, n)
		if g.scriptPriority != 0 {
			priorities = t.ints(g.scriptPriority, n, false)
		}
		group := make([]Script, n)
		for i := range group {
			group[i] = Script{Interp: progs[i], Body: bodies[i], Flags: uint32(flags[i]), Priority: int(int32(priorities[i]))}
		}
		on := t.deps(depTags{g.name, g.version, g.flags})
		for i, k := range t.ints(g.index, len(on), true) {
			if k >= uint64(n) {
				t.fail("trigger on %q belongs to script %d of %d", on[i].Name, k, n)
				return nil
			}
			s := &group[k]
			s.Kind, s.On = g.prefix+triggerKind(on[i].Flags), append(s.On, on[i])
		}
		out = append(out, group...)
	}
	return out
}

func triggerKind(flags uint32) string {
	switch {
	case flags&senseTriggerPrein != 0:
		return "triggerprein"
	case flags&senseTriggerIn != 0:
		return "triggerin"
	case flags&senseTriggerUn != 0:
		return "triggerun"
	case flags&senseTriggerPostun != 0:
		return "triggerpostun"
	}
	return "trigger"
}

func signatures(h *header, name string) ([]Signature, error) {
	var out []Signature
	for _, tag := range signatureTags {
		e := h.find(tag)
		switch {
		case e == nil:
		case e.typ == typeBin:
			out = append(out, Signature{Tag: int(tag), Data: bytes.Clone(e.data)})
		case tag == sigOpenPGP:
			for _, s := range h.strings(tag) {
				b, err := base64.StdEncoding.DecodeString(s)
				if err != nil {
					return nil, damaged(name, "signature header: tag %d is no base64: %v", tag, err)
				}
				out = append(out, Signature{Tag: int(tag), Data: b})
			}
		default:
			return nil, damaged(name, "signature header: tag %d has type %d, signatures are binary", tag, e.typ)
		}
	}
	return out, nil
}
