// Package feed is the publisher: it turns packages into signed, cumulative
// feeds that real clients trust, and reads them back as a stranger would.
//
// The publication is a tree of plain files (docs/format/publication.md). Nothing
// in it is changed or removed but the pointers, which are switched last:
//
//	distribution.json*            series, boards, lifespan
//	keys/                         public keys
//	<series>/pool/rpm/<scope>/<key epoch>/<file>.rpm
//	<series>/snapshots/<serial>/snapshot.json .asc
//	<series>/snapshots/<serial>/<scope>/repodata/
//	<series>/history/<scope>/repodata/    repomd.xml* repomd.xml.asc*
//	<series>/current/<scope>/repodata/    repomd.xml* repomd.xml.asc*
//	<series>/releases/<version>/release.json .sig
//	<series>/removals/<serial>.json .asc
//	<series>/images/<board>/<version>/    images with their manifests
//	<series>/at.json* timestamp.json* .asc* current.json*
//
// A [Publisher] writes one tree with one pair of keys; the candidate's feed and
// the publication are the same code with other keys and another tree.
package feed

import (
	"fmt"
	"path"

	"slipway/internal/distro"
)

// KeyEpoch is the folder of the pool for packages signed with the first key. A
// re-signed twin after a key compromise stands in another: see [Publisher.ResignPackage].
const KeyEpoch = 1

// Layout gives the names of one series in a publication tree.
type Layout struct{ Series string }

// Pool is the name of a package's file.
func (l Layout) Pool(scope string, epoch int, file string) string {
	return path.Join(l.Series, "pool/rpm", scope, fmt.Sprint(epoch), file)
}

// Package is the name of the file that a record is of.
func (l Layout) Package(r distro.PackageRecord) string { return l.Pool(r.Scope, epochOf(r), r.File) }

// epochOf is the key epoch of a record; those of older programs do not say it.
func epochOf(r distro.PackageRecord) int { return max(r.KeyEpoch, KeyEpoch) }

// Snapshot is the folder of a snapshot.
func (l Layout) Snapshot(serial int) string {
	return path.Join(l.Series, "snapshots", fmt.Sprint(serial))
}

// Removal is the name of a removal's notice.
func (l Layout) Removal(serial int) string {
	return path.Join(l.Series, "removals", fmt.Sprintf("%d.json", serial))
}

// Statement is the name of a release's statement; its signature ends in .sig.
func (l Layout) Statement(v distro.Version) string {
	return path.Join(l.Series, "releases", string(v), "release.json")
}

// Current, History and the pointers.
func (l Layout) Current(scope string) string { return path.Join(l.Series, "current", scope) }
func (l Layout) History(scope string) string { return path.Join(l.Series, "history", scope) }
func (l Layout) CurrentJSON() string         { return path.Join(l.Series, "current.json") }
func (l Layout) AtJSON() string              { return path.Join(l.Series, "at.json") }

// ImageName is the name of an image's file (or its manifest).
func ImageName(series, board string, v distro.Version, file string) string {
	return path.Join(series, "images", board, string(v), file)
}

// SDKName is the name of a file of a release's SDKs.
func SDKName(series string, v distro.Version, file string) string {
	return path.Join(series, "sdk", string(v), file)
}

// SDKUpdates is the folder of what extensible SDKs ask for updates, each below a name of
// its own.
func SDKUpdates(series string) string { return path.Join(series, "sdk", "update") }

// IsPointer reports whether a file of the publication is one that is replaced.
func IsPointer(name string) bool { return rank(name) != 0 }

// up gives the way from a feed's folder to the series' folder, for hrefs:
// packages lie in the pool, one place for all indexes.
func (l Layout) up(folder string) string {
	up := ""
	for folder != l.Series && folder != "." {
		folder = path.Dir(folder)
		up += "../"
	}
	return up
}
