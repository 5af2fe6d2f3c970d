package feed

import (
	"fmt"
	"sort"
	"strings"

	"slipway/internal/distro"
)

// Variables of dnf that stand for a scope on devices with boards: the machine's
// package of the distribution sets them in /etc/dnf/vars.
const (
	ArchVariable    = "$slipway_arch"
	MachineVariable = "$slipway_machine"
	SoCVariable     = "$slipway_soc" // only where a board of the series has an SoC family
)

// RepoOptions say how a client reaches the feeds.
type RepoOptions struct {
	Distribution, Title, Series string
	Scopes                      []string
	URL                         string   // "" writes $slipway_url
	Snapshot                    string   // "" writes $slipway_snapshot; else "current" or "snapshots/17"
	Keys                        []string // URLs of the public keys, file:///etc/pki/rpm-gpg/...
	Comment                     string   // one line at the top; "" is none
}

// RepoFile gives the text of <distribution>.repo for dnf: one section a scope
// with both signature checks on, and one for its history, off. Without URL and
// Snapshot it holds the variables $slipway_url and $slipway_snapshot of
// /etc/dnf/vars, so that a mirror, an export or a pin needs no rewriting.
func RepoFile(o RepoOptions) string {
	url, snapshot := o.URL, o.Snapshot
	if url == "" {
		url = "$slipway_url"
	}
	if snapshot == "" {
		snapshot = "$slipway_snapshot"
	}
	scopes := append([]string(nil), o.Scopes...)
	sort.Strings(scopes)
	var b strings.Builder
	if o.Comment != "" {
		b.WriteString("# " + o.Comment + "\n")
	}
	section := func(id, name, base string, enabled int) {
		fmt.Fprintf(&b, "[%s]\nname=%s\nbaseurl=%s\nenabled=%d\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=%s\n\n",
			id, name, base, enabled, strings.Join(o.Keys, "\n       "))
	}
	for _, s := range scopes {
		id := strings.TrimPrefix(s, "$slipway_") // a section's name holds no variable
		enabled := 1
		if _, part := distro.ScopePart(s); part != "" { // for developers: no device asks for its metadata unless told to
			enabled = 0
		}
		section(o.Distribution+"-"+id, fmt.Sprintf("%s %s - %s", o.Title, o.Series, s), url+"/"+o.Series+"/"+snapshot+"/"+s, enabled)
	}
	for _, s := range scopes {
		id := strings.TrimPrefix(s, "$slipway_")
		section(o.Distribution+"-"+id+"-history", fmt.Sprintf("%s %s - %s - every version", o.Title, o.Series, s), url+"/"+o.Series+"/history/"+s, 0)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Configuration gives the files of a device's feed configuration, by name: the
// .repo file, the variables and the public keys, as the builder's feed
// configuration package ships them.
func Configuration(distribution, title, series, baseURL string, scopes []string, keys map[string][]byte) map[string][]byte {
	out := map[string][]byte{
		"vars/slipway_url":      []byte(baseURL + "\n"),
		"vars/slipway_snapshot": []byte("current\n"),
	}
	var urls []string
	for role, armored := range keys {
		name := KeyName(distribution, role)
		out[name] = armored
		urls = append(urls, "file:///etc/pki/rpm-gpg/"+name)
	}
	sort.Strings(urls)
	out[distribution+".repo"] = []byte(RepoFile(RepoOptions{Distribution: distribution, Title: title, Series: series, Scopes: scopes, Keys: urls}))
	return out
}

// KeyName is the name of a public key's file on a device, in /etc/pki/rpm-gpg.
func KeyName(distribution, role string) string { return "RPM-GPG-KEY-" + distribution + "-" + role }

// Scopes gives the scopes of records, with those that every series has.
func Scopes(base []string, records []distro.PackageRecord) []string {
	set := map[string]bool{}
	for _, s := range base {
		set[s] = true
	}
	for _, r := range records {
		set[r.Scope] = true
	}
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}
