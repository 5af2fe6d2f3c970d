package feed

import (
	"path"
	"slices"

	"slipway/internal/distro"
)

// takenBack reports whether only withdrawn releases state a package, as the newest
// snapshot says.
func (v *verifier) takenBack(r distro.PackageRecord) bool {
	gone := v.known[v.report.Serial].Withdrawn
	claims := v.claims[path.Join(r.Scope, r.File)]
	return len(claims) > 0 && !slices.ContainsFunc(claims, func(c claim) bool {
		return !slices.ContainsFunc(gone, func(w Withdrawn) bool { return w.Release == c.release })
	})
}

// withdrawals checks what snapshots say of releases that were taken back: such a word
// is never taken back, and what they alone brought is not offered.
func (v *verifier) withdrawals() {
	said := map[distro.Version]bool{}
	for _, serial := range sortedSerials(v.known) {
		now := map[distro.Version]bool{}
		for _, w := range v.known[serial].Withdrawn {
			now[w.Release], said[w.Release] = true, true
		}
		for _, release := range sortedKeys(said) {
			if !now[release] {
				v.find("%s/snapshot.json: release %s was withdrawn before, and is not any more", v.l.Snapshot(serial), release)
				delete(said, release)
			}
		}
	}
	if len(v.report.Unfinished) > 0 {
		return // a publish at work switches current before current.json
	}
	offered := map[string]bool{}
	for _, f := range v.known[v.report.Serial].Feeds {
		for _, folder := range []string{v.l.Current(f.Scope), v.l.History(f.Scope)} {
			for _, name := range v.lists[folder] {
				offered[name] = true
			}
		}
	}
	for _, name := range sortedKeys(offered) {
		scope, file, _ := v.l.inPool(name)
		if claims := v.claims[path.Join(scope, file)]; len(claims) > 0 && v.takenBack(claims[0].record) {
			v.find("%s: offered, and only a withdrawn release brought it", name)
		}
	}
}
