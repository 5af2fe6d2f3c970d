package timestamp

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Find gives the snapshot that a person names: "current", a release ("1.3": the
// newest snapshot of it), a day ("2026-12-24": what was current at its end, in
// UTC), a time (RFC 3339), or a snapshot itself ("snapshots/17"). NotFound when
// there is none.
func (a At) Find(what string) (AtEntry, error) {
	if len(a.Entries) == 0 {
		return AtEntry{}, errs.E(errs.NotFound, fmt.Sprintf("series %s has no release", a.Series), errs.Hint("slipway publish VERSION"))
	}
	if what == "current" {
		return a.Entries[len(a.Entries)-1], nil
	}
	serial, err := a.find(what)
	if err != nil {
		return AtEntry{}, err
	}
	for _, e := range a.Entries {
		if e.Serial == serial {
			return e, nil
		}
	}
	return AtEntry{}, errs.E(errs.NotFound, fmt.Sprintf("series %s has no snapshot %d", a.Series, serial), errs.Hintf("its releases: %s", a.releases()))
}

func (a At) find(what string) (int, error) {
	if day, err := time.Parse(time.DateOnly, what); err == nil {
		return a.On(day.AddDate(0, 0, 1).Add(-time.Second))
	}
	if t, err := time.Parse(time.RFC3339, what); err == nil {
		return a.On(t)
	}
	if s, ok := strings.CutPrefix(what, "snapshots/"); ok {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return 0, errs.E(errs.Invalid, fmt.Sprintf("%q is no snapshot", what), errs.Hint("snapshots/17, a release, a date, or current"))
		}
		return n, nil
	}
	return a.Serial(distro.Version(what))
}
