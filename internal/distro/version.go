package distro

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"slipway/internal/errs"
)

// Version names a release: <series>.<n>, for instance "1.3" or "2026.1.12". It
// rises by rpm's order and is unique in the distribution. Release 0 of a series
// is an adopted feed; the first that Slipway builds is 1.
type Version string

// NewVersion joins a series and a number.
func NewVersion(series string, n int) Version { return Version(fmt.Sprintf("%s.%d", series, n)) }

// ParseVersion checks a version of the given series and gives its number.
func ParseVersion(series, s string) (Version, int, error) {
	rest, ok := strings.CutPrefix(s, series+".")
	n, err := strconv.Atoi(rest)
	if !ok || err != nil || n < 0 || strconv.Itoa(n) != rest {
		return "", 0, errs.E(errs.Invalid, fmt.Sprintf("%q is no version of series %q", s, series),
			errs.Hintf("a version is the series, a dot and a number: %s.1", series))
	}
	return Version(s), n, nil
}

// Series and N take a version apart. N is -1 for a malformed version.
func (v Version) Series() string {
	i := strings.LastIndexByte(string(v), '.')
	if i < 0 {
		return ""
	}
	return string(v[:i])
}

// N is the number after the series.
func (v Version) N() int {
	i := strings.LastIndexByte(string(v), '.')
	n, err := strconv.Atoi(string(v[i+1:]))
	if i < 0 || err != nil {
		return -1
	}
	return n
}

// Compare orders versions as rpm does.
func (v Version) Compare(w Version) int { return RPMVerCmp(string(v), string(w)) }

// BuildID names a build: "<version>-b<n>". As a candidate the same build is
// called "<version>-c<n>", with the same n.
type BuildID string

var buildIDPattern = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._]*\.[0-9]+)-([bc])([1-9][0-9]*)$`)

// NewBuildID joins a version and a count, from 1.
func NewBuildID(v Version, n int) BuildID { return BuildID(fmt.Sprintf("%s-b%d", v, n)) }

// ParseBuildID accepts "1.3-b2" and "1.3-c2" and gives the build's id.
func ParseBuildID(s string) (BuildID, error) {
	m := buildIDPattern.FindStringSubmatch(s)
	if m == nil {
		return "", errs.E(errs.Invalid, fmt.Sprintf("%q is no build or candidate", s), errs.Hint("a build is named 1.3-b2, its candidate 1.3-c2; slipway status lists them"))
	}
	return BuildID(m[1] + "-b" + m[3]), nil
}

// Version gives the version that the build was reserved for.
func (b BuildID) Version() Version {
	i := strings.LastIndex(string(b), "-b")
	if i < 0 {
		return ""
	}
	return Version(b[:i])
}

// N gives the build's count within its version.
func (b BuildID) N() int {
	i := strings.LastIndex(string(b), "-b")
	if i < 0 {
		return 0
	}
	n, _ := strconv.Atoi(string(b[i+2:]))
	return n
}

// Candidate gives the name that the build has when it ended as a candidate.
func (b BuildID) Candidate() string { return fmt.Sprintf("%s-c%d", b.Version(), b.N()) }
