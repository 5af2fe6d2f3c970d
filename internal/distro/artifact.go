package distro

// Class says what an artifact of a build is (A1 to A14 of the requirements).
type Class string

// The classes.
const (
	Configuration     Class = "configuration"
	ConsoleLog        Class = "console-log"
	TaskLog           Class = "task-log"
	Buildhistory      Class = "buildhistory"
	Downloads         Class = "downloads"
	Sources           Class = "sources"
	PRDatabase        Class = "pr-database"
	SState            Class = "sstate"
	HashDatabase      Class = "hash-database"
	FeedConfiguration Class = "feed-configuration"
	Packages          Class = "packages"
	Images            Class = "images"
	SDK               Class = "sdk"
	SBOM              Class = "sbom"

	// TestResults are results of tests that were imported later. They are no artifact of
	// a build, and never published: logs of tests name machines and people.
	TestResults Class = "test-results"
)

// Classes lists every class, A1 to A14 in order.
var Classes = []Class{Configuration, ConsoleLog, TaskLog, Buildhistory, Downloads, Sources, PRDatabase, SState,
	HashDatabase, FeedConfiguration, Packages, Images, SDK, SBOM}

// Artifact is one file of a build, in the artifact store under Digest.
type Artifact struct {
	Class  Class  `json:"class"`
	Name   string `json:"name"` // unique in its class; a slash-separated relative path
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"` // bytes
	// File is its name in the publication, in the statement of a release; "" is not published.
	File string `json:"file,omitempty"`
}

// PackageRecord is what a release knows of one binary (or source) package. The
// file's digest is that of the file as built (unsigned) in a candidate, and of
// the signed file in a published release; HeaderDigest is the same in both.
type PackageRecord struct {
	Name         string `json:"name"`
	Epoch        int    `json:"epoch,omitempty"`
	Version      string `json:"version"`
	Release      string `json:"release"`
	Arch         string `json:"arch"` // "src" for source packages
	Scope        string `json:"scope"`
	SourceName   string `json:"source"`                  // name of the spec (or recipe) that it comes from
	License      string `json:"license,omitempty"`       // an expression, as in the header
	LicenseFlags string `json:"license_flags,omitempty"` // words; only BitBake's recipes have them
	File         string `json:"file"`                    // file name, no folder
	Digest       Digest `json:"digest"`                  // of the file
	Size         int64  `json:"size"`
	HeaderDigest Digest `json:"header_digest"`
	// KeyEpoch is the folder of the pool that the file lies in: it rises when a key was
	// compromised and all is signed again. 0 is 1.
	KeyEpoch int `json:"key_epoch,omitempty"`
	// SignedBy is the role of the key that signed the file, when that is not package:
	// metadata for what bridges a lost package key ([Bridged]).
	SignedBy string `json:"signed_by,omitempty"`
	Content  Digest `json:"content_digest"`
	// Kept: the content equals that of the base release, so number and published file were kept.
	Kept bool `json:"kept,omitempty"`
	// Internal says why the package is not published: the rule of [PublicPolicy] that
	// keeps it in. "" is a public one. Its digest is that of the file as built.
	Internal string `json:"internal,omitempty"`
}

// EVR gives [epoch:]version-release.
func (p PackageRecord) EVR() string { return FormatEVR(p.Epoch, p.Version, p.Release) }

// CompareEVR orders two packages by version, as rpm does: below 0 when p is the older.
func (p PackageRecord) CompareEVR(q PackageRecord) int {
	return CompareEVR(p.Epoch, p.Version, p.Release, q.Epoch, q.Version, q.Release)
}

// NEVRA gives name-[epoch:]version-release.arch.
func (p PackageRecord) NEVRA() string { return p.Name + "-" + p.EVR() + "." + p.Arch }

// Bridged is the [PackageRecord].SignedBy of a package that the metadata key signed,
// because devices know no package key that still signs.
const Bridged = "metadata"
