package feed

import (
	"sort"
	"time"

	"slipway/internal/distro"
	"slipway/internal/timestamp"
)

// The documents that devices read have their format in internal/timestamp.
type (
	Snapshot   = timestamp.Snapshot
	ScopeIndex = timestamp.ScopeIndex
	At         = timestamp.At
	AtEntry    = timestamp.AtEntry
	Withdrawn  = timestamp.Withdrawn
)

// Current is the pointer current.json, switched last of all.
type Current struct {
	Schema  int            `json:"schema"`
	Series  string         `json:"series"`
	Serial  int            `json:"serial"`
	Release distro.Version `json:"release"`
	At      time.Time      `json:"at"`
	// Snapshot is the digest of snapshots/<serial>/snapshot.json.
	Snapshot distro.Digest `json:"snapshot"`
}

// Newest gives the default index: of each name in each scope the newest
// version, sorted. Packages that a build does not bring stay: the caller passes
// everything that was ever published and is not withdrawn.
func Newest(all []distro.PackageRecord) []distro.PackageRecord {
	type key struct{ scope, name, arch string }
	best := map[key]distro.PackageRecord{}
	for _, p := range all {
		k := key{p.Scope, p.Name, p.Arch}
		if b, ok := best[k]; !ok || distro.CompareEVR(p.Epoch, p.Version, p.Release, b.Epoch, b.Version, b.Release) > 0 {
			best[k] = p
		}
	}
	out := make([]distro.PackageRecord, 0, len(best))
	for _, p := range best {
		out = append(out, p)
	}
	return SortRecords(out)
}

// Union joins record lists, sorted; of records with the same file in the same
// scope the first wins (what is published stays).
func Union(lists ...[]distro.PackageRecord) []distro.PackageRecord {
	return SortRecords(Append(lists...))
}

// Append joins record lists in their order; of records with the same file in the
// same scope the first stays. What is published later then stands later, as the
// history index wants it.
func Append(lists ...[]distro.PackageRecord) []distro.PackageRecord {
	type key struct{ scope, file string }
	n := 0
	for _, l := range lists {
		n += len(l)
	}
	seen := make(map[key]bool, n)
	out := make([]distro.PackageRecord, 0, n)
	for _, l := range lists {
		for _, p := range l {
			if k := (key{p.Scope, p.File}); !seen[k] {
				seen[k] = true
				out = append(out, p)
			}
		}
	}
	return out
}

// SortRecords sorts in place by scope, name, version and architecture.
func SortRecords(l []distro.PackageRecord) []distro.PackageRecord {
	sort.Slice(l, func(i, j int) bool {
		a, b := l[i], l[j]
		if a.Scope != b.Scope {
			return a.Scope < b.Scope
		}
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		if c := distro.CompareEVR(a.Epoch, a.Version, a.Release, b.Epoch, b.Version, b.Release); c != 0 {
			return c < 0
		}
		return a.File < b.File
	})
	return l
}
