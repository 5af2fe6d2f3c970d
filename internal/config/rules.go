package config

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// rule is the form of a text, for fields with the tag rule.
type rule struct {
	what    string // "a distribution's name"
	form    string // what it looks like, for the hint
	pattern *regexp.Regexp
	also    func(string) bool // beyond the pattern; nil for nothing
}

func pattern(what, expr, form string) rule {
	return rule{what: what, form: form, pattern: regexp.MustCompile(expr)}
}

var rules = map[string]rule{
	"distribution": pattern("a distribution's name", `^[a-z][a-z0-9]*(-[a-z0-9]+)*$`, "lower-case letters, digits and single dashes, a letter first: halyard"),
	"series": {what: "a series' name", form: "letters, digits and single dots: 1, 2026.1; not the name of a folder of the publication (keys, log, sstate, downloads, security)",
		pattern: regexp.MustCompile(`^[A-Za-z0-9]+([._][A-Za-z0-9]+)*$`), also: func(s string) bool { return !reservedSeries[s] }},
	"layer": pattern("a name", `^[A-Za-z0-9][A-Za-z0-9._+-]*$`, "letters, digits and . _ + -, a letter or digit first: meta-halyard"),
	"board": {what: "a board's name", form: "letters, digits and . _ + -, a letter or digit first: qemux86-64; not noarch, all or src",
		pattern: regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`), also: func(s string) bool { return s != "noarch" && s != "src" && s != "all" }},
	"arch": {what: "an architecture", form: "as rpm names it: x86_64, aarch64; noarch needs no naming",
		pattern: regexp.MustCompile(`^[a-z0-9][a-z0-9_]*$`), also: func(s string) bool { return s != "noarch" && s != "src" && s != "all" }},
	"package": pattern("a name of a package", `^[A-Za-z0-9][A-Za-z0-9._+:-]*$`, "letters, digits and . _ + : -, a letter or digit first"),
	"program": {what: "a program of the repository", form: "its path in the workspace: lab/bench",
		pattern: regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)+$`)},
	"word":   pattern("a name", `^[A-Za-z0-9][A-Za-z0-9._-]*$`, "letters, digits and . _ -, a letter or digit first"),
	"check":  pattern("a check's id", `^[a-z0-9]+([-/][a-z0-9]+)*$`, "lower-case letters, digits and single dashes: upgrade-last"),
	"commit": pattern("a full commit id", `^([0-9a-f]{40}|[0-9a-f]{64})$`, "40 hexadecimal digits: git rev-parse HEAD"),
	"ref": {what: "a branch's name", form: "as git allows it: main, wrynose, feature/x",
		pattern: regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/+@-]*$`), also: func(s string) bool {
			return !strings.Contains(s, "..") && !strings.Contains(s, "//") && !strings.Contains(s, "@{") &&
				!strings.HasSuffix(s, "/") && !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, ".lock")
		}},
	"date": {what: "a date", form: "year-month-day: 2026-12-01", pattern: regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`),
		also: func(s string) bool { _, err := time.Parse(time.DateOnly, s); return err == nil }},
	"duration": {what: "a duration", form: "a whole number and h, d or w: 12h, 3d, 2w", pattern: regexp.MustCompile(`^[1-9][0-9]{0,3}[hdw]$`)},
	"contact":  pattern("a contact", `^([^@\s:/]+@[^@\s:/]+|https://\S+)$`, "a mail address or an https address: security@example.org"),
	"url": {what: "an address of a feed", form: "http, https or file, without user, query or fragment: https://feeds.example.org/halyard",
		pattern: regexp.MustCompile(`^(https?://[^/\s]|file:///)[^\s]*$`), also: feedURL},
	"limit":    pattern("a size", `^[1-9][0-9]{0,6}[KMG]$`, "a whole number and K, M or G: 512K, 96M"),
	"size":     pattern("a size", `^[1-9][0-9]{0,5}[MG]$`, "a whole number and M or G: 96M, 2G"),
	"s3":       pattern("a place in an object store", `^s3://[a-z0-9][a-z0-9.-]*[a-z0-9](/[A-Za-z0-9][A-Za-z0-9._-]*)*$`, "s3://bucket/prefix: s3://feeds/halyard"),
	"endpoint": pattern("an address of an object store", `^https?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?$`, "https://s3.example.org"),
	"advisory": pattern("an id of an advisory", `^[A-Z][A-Za-z0-9]*([-._][A-Za-z0-9]+)+$`, "letters, digits and single - . _, a capital letter first: HLSA-2026-0001.yaml"),
	"cve":      pattern("a CVE id", `^CVE-[0-9]{4}-[0-9]{4,19}$`, "CVE, year and number: CVE-2026-12345"),
	"title":    pattern("a line of text", `^\S(.{0,198}\S)?$`, "one line of at most 200 characters"),
	"link":     pattern("an address", `^https?://[^\s"<>]+$`, "http or https: https://www.cve.org/CVERecord?id=CVE-2026-12345"),
	"hashserv": pattern("an address for BitBake", `^(unix://\S+|(ws://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):[0-9]{1,5})$`, "host:port, unix://PATH or ws://host:port"),
	"listen":   pattern("an address to listen on", `^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):[0-9]{1,5}$`, "host:port: 127.0.0.1:8080"),
}

// The publication keeps these beside the series (DESIGN.md section 5).
var reservedSeries = map[string]bool{"keys": true, "log": true, "sstate": true, "downloads": true, "security": true, "distribution.json": true, "timestamp.json": true}

func feedURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	// A ' or $ would be read by dnf, which puts the address into its own files.
	return u.Opaque == "" && !strings.ContainsAny(s, "'\"$\\")
}

func (r rule) accepts(s string) bool {
	return len(s) <= 1024 && r.pattern.MatchString(s) && (r.also == nil || r.also(s))
}

func parseSpan(s string) (time.Duration, bool) {
	if !rules["duration"].accepts(s) {
		return 0, false
	}
	n, _ := strconv.Atoi(s[:len(s)-1])
	unit := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[s[len(s)-1]]
	return time.Duration(n) * unit, true
}
