package security_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"slipway/internal/check"
	"slipway/internal/check/security"
	"slipway/internal/distro"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	good, bad := sound(), faulty()
	withDatabase(t, good)
	good["usr/lib/debug/tool.debug"] = node{text: "x"}
	goodPath, badPath := pack(t, good), pack(t, bad)
	digest := distro.DigestOf([]byte("good"))
	images := []check.BootImage{{Board: "b1", Image: "light", Path: goodPath, Digest: digest}, {Board: "b2", Image: "light", Path: badPath, Digest: distro.DigestOf([]byte("bad"))}}
	// What the build says of the first image; its database has another package, tool-dbg.
	contents := []check.ImageContent{{Board: "b1", Image: "light", Packages: []distro.PackageRecord{{Name: "tool", Version: "1.0", Release: "r2", Arch: "core2_64"}}}}
	policy := distro.ImagePolicy{Allow: map[string][]string{"debug-package": {"tool-dbg"}, "setuid": {"opt/setuid"}}}
	run := func(bed check.Bed) (distro.CheckResult, check.Outcome) {
		t.Helper()
		bed.Dir, bed.Jobs = t.TempDir(), 2
		out, err := check.Run(t.Context(), &bed, []check.Check{security.New()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Result, out[0]
	}
	r, o := run(check.Bed{Images: images, Contents: contents, Version: "1.2", ImagePolicy: policy})
	var got []string
	for _, f := range r.Findings {
		got = append(got, string(f.Level)+" "+f.Key()+" "+strings.Join(f.Boards, " "))
	}
	want := "block security/b1/light:manifest:tool-dbg.core2_64 b1"
	for _, f := range faults {
		if f != "block setuid:opt/setuid" {
			want += "\nblock security/b2/light:" + strings.TrimPrefix(f, "block ") + " b2"
		}
	}
	if strings.Join(got, "\n") != want || r.Error != "" || r.Asked < 50 || len(o.Good) != 0 {
		t.Errorf("%s\n%+v", strings.Join(got, "\n"), r)
	}
	if len(o.Files) != 2 || o.Files[1].Name != "b2-light.json" || r.Findings[len(r.Findings)-1].Log != "test/security/b2-light.json" {
		t.Fatalf("%+v", o.Files)
	}
	b, err := os.ReadFile(o.Files[1].Path)
	var report security.Report
	if err == nil {
		err = json.Unmarshal(b, &report)
	}
	if err != nil || report.Status != distro.Blocked || len(report.Findings) != len(faults)-1 {
		t.Errorf("%v %+v", err, report)
	}

	// Nothing to find: remembered, until policy or bytes are others.
	contents[0].Packages = append(contents[0].Packages, distro.PackageRecord{Name: "tool-dbg", Version: "1.0", Release: "r2", Arch: "core2_64"})
	bed := check.Bed{Images: images[:1], Contents: contents, Version: "1.2", ImagePolicy: policy}
	r, o = run(bed)
	if len(r.Findings) != 0 || len(o.Good) != 1 {
		t.Fatalf("%+v %v", r, o.Good)
	}
	// BitBake's manifests have no digests, and no release of a package that is not known.
	recipes := bed
	recipes.Recipes, recipes.Contents = true, []check.ImageContent{{Board: "b1", Image: "light", Packages: slices.Clone(contents[0].Packages)}}
	recipes.Contents[0].Packages[0].HeaderDigest, recipes.Contents[0].Packages[1].Release = distro.DigestOf([]byte("published")), ""
	if r, _ = run(recipes); len(r.Findings) != 0 {
		t.Errorf("%+v", r.Findings)
	}
	recipes.Contents[0].Packages[1].Version = "2.0"
	if r, _ = run(recipes); len(r.Findings) != 1 || r.Findings[0].ID != "b1/light:manifest:tool-dbg.core2_64" {
		t.Errorf("%+v", r.Findings)
	}
	memory := o.Good[0]
	bed.Answered = func(d distro.Digest) (string, bool) { return "1.1-c1", d == memory }
	if r, _ = run(bed); r.Asked != 0 || !strings.Contains(r.Note, "1.1-c1") {
		t.Errorf("%+v", r)
	}
	bed.ImagePolicy = distro.ImagePolicy{}
	if r, _ = run(bed); r.Asked == 0 || len(r.Findings) != 1 {
		t.Errorf("%+v", r)
	}

	// It fails closed.
	if err := os.Truncate(goodPath, 700); err != nil {
		t.Fatal(err)
	}
	if r, _ = run(check.Bed{Images: images}); !strings.Contains(r.Error, "image b1/light") {
		t.Errorf("%+v", r)
	}
	if r, _ = run(check.Bed{Images: images[1:], ImagePolicy: distro.ImagePolicy{Levels: map[string]distro.Level{"nonsense": distro.Off}}}); r.Error == "" {
		t.Errorf("%+v", r)
	}
	if r, _ = run(check.Bed{}); r.Error != "" || r.Note == "" {
		t.Errorf("%+v", r)
	}
}
