package feed

import (
	"fmt"
	"path"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/rpmmd"
)

// updateinfo gives the text of a scope's updateinfo.xml, nil when no advisory names a
// package of the scope. Withdrawn advisories are left out.
func (p *Publisher) updateinfo(e *Edition, scope string) ([]byte, error) {
	var list []rpmmd.Advisory
	for _, a := range e.Advisories {
		x := rpmmd.Advisory{ID: a.ID, From: a.Contact, Status: "final", Type: a.Type, Version: a.Version, Title: a.Title, Severity: rpmSeverity(a.Severity),
			Release: p.Title + " " + string(a.FixedIn), Description: strings.TrimSpace(a.Description), Issued: a.Issued, Updated: a.Updated, Reboot: a.Reboot,
			Collection: p.Distribution + "-" + p.Layout.Series, CollectionName: p.Title + " " + p.Layout.Series}
		for _, c := range a.CVEs {
			x.References = append(x.References, rpmmd.Reference{Href: "https://www.cve.org/CVERecord?id=" + c, ID: c, Title: c, Type: "cve"})
		}
		for _, r := range a.References {
			title := r.Title
			if title == "" {
				title = r.URL
			}
			x.References = append(x.References, rpmmd.Reference{Href: r.URL, ID: title, Title: title, Type: "other"})
		}
		for _, q := range a.Packages {
			if q.Scope == scope {
				x.Packages = append(x.Packages, rpmmd.AdvisoryPackage{Name: q.Name, Epoch: q.Epoch, Version: q.Version, Release: q.Release, Arch: q.Arch, File: q.File})
			}
		}
		if len(x.Packages) > 0 && a.Withdrawn == "" {
			list = append(list, x)
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	return rpmmd.EncodeUpdateinfo(list)
}

// rpmSeverity writes a severity as dnf reads it.
func rpmSeverity(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// advisories checks what an index says of advisories: it must be as Slipway writes it,
// and name packages that releases state in that scope. One that names others would make
// devices wait for what does not exist.
func (v *verifier) advisories(folder string, repo *rpmmd.Repo) {
	if rec, ok := repo.Repomd.Record("updateinfo"); ok {
		v.advised[folder] = rec.Checksum.Value
	}
	if repo.Updateinfo == nil {
		return
	}
	list, err := rpmmd.ReadUpdateinfo(strings.NewReader(string(repo.Updateinfo)))
	if err != nil {
		v.find("%s: not as slipway writes it: %v", folder, err)
		return
	}
	scope := path.Base(folder)
	if v.nevras == nil {
		v.nevras = map[string]bool{}
		for _, r := range v.records {
			v.nevras[r.Scope+"/"+r.NEVRA()+"/"+r.File] = true
		}
	}
	for _, a := range list {
		for _, p := range a.Packages {
			r := distro.PackageRecord{Name: p.Name, Epoch: p.Epoch, Version: p.Version, Release: p.Release, Arch: p.Arch}
			if !v.nevras[fmt.Sprintf("%s/%s/%s", scope, r.NEVRA(), p.File)] {
				v.find("%s: advisory %s names %s (%s), which no release states in %s", folder, a.ID, r.NEVRA(), p.File, scope)
			}
		}
	}
}
