package cycle

import (
	"strings"
	"testing"

	"slipway/internal/distro"
)

// Nothing that a statement says of an internal package, finding or remark names it.
func TestStatementNamesNothingInternal(t *testing.T) {
	t.Parallel()
	finding := distro.Finding{Check: "public", ID: "qemu/light:radio.noarch", Level: distro.Block, Boards: []string{"qemu"}, Text: "holds radio-1-1.noarch", Source: "vendor-radio", Commits: []string{"1a2b vendor-radio: new"}}
	open := distro.Finding{Check: "installs", ID: "greet.noarch", Level: distro.Warn, Text: "broadcasts on the radios"}
	waiver := distro.Waiver{Finding: "public/qemu/light:radio.noarch", By: "T", Because: "radio may wait"}
	b := Build{Revision: distro.Revision{Sources: []distro.SourcePin{{Spec: "vendor-radio", Name: "radio.tar"}, {Spec: "vendor-unbuilt", Name: "x"}, {Spec: "greet", Name: "greet.tar"}}},
		Packages:  []distro.PackageRecord{{Name: "radio", SourceName: "vendor-radio", License: "MIT", Internal: "x"}, {Name: "greet", SourceName: "greet", License: "MIT"}},
		Artifacts: []distro.Artifact{{Class: distro.TaskLog, Name: "vendor-radio.noarch.log"}, {Class: distro.TaskLog, Name: "greet.noarch.log", Digest: "d"}, {Class: distro.Configuration, Name: "slipway.yaml"}}}
	b.Candidate = Candidate{Waivers: []distro.Waiver{waiver}, Checks: []distro.CheckResult{{Note: "left out: radio", Findings: []distro.Finding{finding, open}}},
		Verdict: &distro.Verdict{Reasons: []distro.Reason{{Finding: finding, Waived: &waiver}, {Finding: open}}}}
	policy := distro.PublicPolicy{Classes: []distro.Class{distro.Packages, distro.Configuration}, Exclude: []distro.Exclusion{{Recipe: "vendor-*"}}}
	s := statement(Release{Approval: distro.Approval{Because: "for the radio"}}, b, policy)
	text := strings.ReplaceAll(string(distro.CanonicalJSON(s)), "radios", "")
	if strings.Contains(text, "radio") || strings.Contains(text, "vendor") {
		t.Error(text)
	}
	if s.Withheld != 4 || len(s.Artifacts) != 2 || s.Artifacts[0].Name != "" || s.Artifacts[0].Digest != "d" || s.Artifacts[1].Name != "slipway.yaml" || len(s.Revision.Sources) != 1 {
		t.Errorf("withheld %d, %+v, %+v", s.Withheld, s.Artifacts, s.Revision.Sources)
	}
	if f := s.Checks[0].Findings; f[0].Key() != s.Waivers[0].Finding || f[0].Key() != s.Verdict.Reasons[0].Finding.Key() || f[1].Text != open.Text {
		t.Errorf("%+v %+v", f, s.Waivers)
	}
	if b.Candidate.Checks[0].Findings[0].ID != finding.ID || b.Candidate.Verdict.Reasons[0].Waived.Because != waiver.Because {
		t.Error("the build's own document was changed")
	}
}
