package distro

import "time"

// Advisory tells devices which packages mend something. Its packages and dates are
// never typed: they are those of the release that brought the fix, and of the decision
// to publish it.
type Advisory struct {
	ID          string      `json:"id"`
	Version     int         `json:"version"`            // from 1; one more with each new text
	Type        string      `json:"type"`               // security, bugfix, enhancement
	Severity    string      `json:"severity,omitempty"` // one of Severities; always for security
	Title       string      `json:"title"`
	Description string      `json:"description"`
	CVEs        []string    `json:"cves,omitempty"`
	References  []Reference `json:"references,omitempty"`
	Reboot      bool        `json:"reboot,omitempty"`
	Contact     string      `json:"contact,omitempty"`
	FixedIn     Version     `json:"fixed_in"`
	Issued      time.Time   `json:"issued"`  // when its first version was published
	Updated     time.Time   `json:"updated"` // when this one was
	// Withdrawn says why it is offered no more; "" for one that stands.
	Withdrawn string            `json:"withdrawn,omitempty"`
	Packages  []AdvisoryPackage `json:"packages"`
}

// Reference is an address where more is said.
type Reference struct {
	URL   string `json:"url"`
	Title string `json:"title"`
}

// AdvisoryPackage is a package that brings the fix: this version and every newer one.
type AdvisoryPackage struct {
	Scope   string `json:"scope"`
	Name    string `json:"name"`
	Epoch   int    `json:"epoch,omitempty"`
	Version string `json:"version"`
	Release string `json:"release"`
	Arch    string `json:"arch"`
	File    string `json:"file"` // file name, no folder
}

// Severities from the worst to the least.
var Severities = []string{"critical", "important", "moderate", "low"}

// SameText reports whether two versions of an advisory say the same, but for dates and
// their number.
func (a Advisory) SameText(b Advisory) bool {
	a.Version, a.Issued, a.Updated = b.Version, b.Issued, b.Updated
	return DigestOf(CanonicalJSON(a)) == DigestOf(CanonicalJSON(b))
}
