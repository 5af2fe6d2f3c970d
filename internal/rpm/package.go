// Package rpm reads RPM files, and gives them another signature.
//
// An RPM file has four parts: a lead of 96 bytes, the signature header, the main
// header (all that is known of the package) and the compressed payload (the
// files, as a cpio archive). [Read] turns the headers into a [Package]; it never
// touches the payload. [Verify] compares header and payload with the checksums
// that the file carries; [Extract] unpacks the payload; [Resign] writes the same
// package with another signature header. The bytes of the main header are the
// identity of a package: their sha256 is [Package.HeaderDigest], which signing
// does not change. [ContentOf] is what the package does to a device.
//
// Everything here treats a file as made by a stranger: whatever it claims is
// checked before it is believed or allocated, and an unsound file is an
// errs.Invalid that says where it is damaged.
//
// The format: rpm's docs/manual/format_header.md and format_v4.md, tags by
// rpmtag.h, checks by header.cc of rpm 4.18 (read, not copied).
package rpm

import (
	"slipway/internal/distro"
)

// Package is one RPM as feeds, checks and diffs see it. Read it with [Read].
type Package struct {
	Name                                              string
	Epoch                                             int
	HasEpoch                                          bool // the header has an Epoch tag
	Version, Release, Arch                            string
	Source                                            bool // a source package; Arch is then "src" (or "nosrc")
	SourceRPM                                         string
	Summary, Description, License, Vendor, Group, URL string
	Packager, BuildHost, Distribution                 string
	BuildTime                                         int64 // seconds since 1970
	InstalledSize, ArchiveSize                        int64 // bytes
	PayloadFormat, PayloadCompressor                  string
	PayloadDigest                                     string // hexadecimal, of the compressed payload, by PayloadDigestAlgo
	PayloadDigestAlgo, FileDigestAlgo                 int    // OpenPGP numbers: 1 md5, 8 sha256, 9 sha384, 10 sha512
	Provides, Requires, Conflicts, Obsoletes          []Dep
	Recommends, Suggests, Supplements, Enhances       []Dep
	Files                                             []File
	Changelogs                                        []Changelog   // newest first, as in the header
	Scripts                                           []Script      // in header order; triggers included
	Size                                              int64         // of the file, bytes
	HeaderStart, HeaderEnd                            int64         // byte range of the main header in the file, as createrepo_c reports it
	Digest                                            distro.Digest // of the whole file; "" when only the header was read
	HeaderDigest                                      distro.Digest // of the main header's bytes: the identity of the package
	Signatures                                        []Signature
}

// Dep is one relation. Flags are rpm's sense bits; EVR is as written ("" when
// none), "1:2.0-3".
type Dep struct {
	Name  string
	Flags uint32
	EVR   string
}

// Sense bits of a Dep (rpmds.h), and of scriptlet requirements.
const (
	SenseLess         = 1 << 1
	SenseGreater      = 1 << 2
	SenseEqual        = 1 << 3
	SensePosttrans    = 1 << 5
	SensePrereq       = 1 << 6
	SensePretrans     = 1 << 7
	SenseInterp       = 1 << 8
	SenseScriptPre    = 1 << 9
	SenseScriptPost   = 1 << 10
	SenseScriptPreun  = 1 << 11
	SenseScriptPostun = 1 << 12
	SenseMissingOK    = 1 << 19
	SenseRpmlib       = 1 << 24
)

// File is one entry of the file list. Path is absolute.
type File struct {
	Path        string
	Mode        uint32
	Size        int64
	MTime       int64
	Digest      string // hexadecimal, by Package's file digest algorithm; "" for what is no regular file
	Link        string
	Flags       uint32
	User, Group string
	Caps        string
	Rdev        uint32
	Inode       uint32
}

// File flags (rpmfiles.h).
const (
	FileConfig    = 1 << 0
	FileDoc       = 1 << 1
	FileMissingOK = 1 << 3
	FileNoReplace = 1 << 4
	FileGhost     = 1 << 6
	FileLicense   = 1 << 7
	FileReadme    = 1 << 8
)

// IsDir reports whether the file is a folder.
func (f File) IsDir() bool { return f.Mode&0o170000 == 0o040000 }

// IsRegular reports whether the file is a regular file.
func (f File) IsRegular() bool { return f.Mode&0o170000 == 0o100000 }

// Changelog is one entry.
type Changelog struct {
	Time   int64
	Author string
	Text   string
}

// Script is a scriptlet or trigger.
type Script struct {
	// Kind is "pre", "post", "preun", "postun", "pretrans", "posttrans",
	// "preuntrans", "postuntrans", "verify", or of a trigger "triggerprein",
	// "triggerin", "triggerun", "triggerpostun", each also with the prefix
	// "file" or "transfile".
	Kind     string
	Interp   string // interpreter with its arguments
	Body     string // "" when the interpreter alone is run (-p)
	Flags    uint32 // 1 expand macros, 2 expand query tags, 4 critical
	Priority int    // of a file trigger
	On       []Dep  // of a trigger
}

// Signature is an OpenPGP signature found in the signature header.
type Signature struct {
	Tag  int    // 267, 268, 278 (over the main header), or an older one over header and payload
	Data []byte // an OpenPGP signature packet, binary
}

// EVR gives [epoch:]version-release.
func (p *Package) EVR() string { return distro.FormatEVR(p.Epoch, p.Version, p.Release) }

// NEVRA gives name-[epoch:]version-release.arch.
func (p *Package) NEVRA() string { return p.Name + "-" + p.EVR() + "." + p.Arch }
