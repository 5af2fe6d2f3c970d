package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func rootfs(t *testing.T, shadow string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name, text string
		mode       int64
	}{{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644}, {"etc/shadow", shadow, 0o400}, {"opt/a tool", "x", 0o4755}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "my image.tar")
	if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImageCheck(t *testing.T) {
	t.Parallel()
	bad, good := rootfs(t, "root::1::::::\n"), rootfs(t, "root:*:1::::::\n")
	cut := filepath.Join(t.TempDir(), "cut.tar")
	b, err := os.ReadFile(bad)
	if err == nil {
		err = os.WriteFile(cut, b[:700], 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		exit int
		want string
	}{
		{[]string{bad}, 7, "account root has an empty password in /etc/shadow (line 1)"},
		{[]string{good}, 7, "/opt/a tool runs as its owner"},
		{[]string{good, "--allow", "setuid:opt/*"}, 0, "ready: "},
		{[]string{bad, "--json"}, 7, `"id": "password:root"`},
		{[]string{cut}, 1, "the image cannot be read"},
		{[]string{cut, "--json"}, 1, `"exit":1`},
		{[]string{filepath.Join(t.TempDir(), "none")}, 1, "no such file"},
		{[]string{good, "--allow", "setuidd:x"}, 2, `did you mean "setuid"?`},
		{[]string{good, "--allow", "setuid"}, 2, "names no rule and object"},
		{[]string{good, "--sarif", "--json"}, 2, "both say how to print"},
		{[]string{}, 2, "needs a file or folder"},
		{[]string{"--rules"}, 0, "world-writable"},
	} {
		var out, talk bytes.Buffer
		exit := Main(t.Context(), append([]string{"image", "check"}, tt.args...), Stdio{In: strings.NewReader(""), Out: &out, Err: &talk})
		if said := out.String() + talk.String(); exit != tt.exit || !strings.Contains(said, tt.want) {
			t.Errorf("%v: exit %d, not %d, said\n%s", tt.args, exit, tt.exit, said)
		}
	}
}

// TestImageCheckSARIF holds the output against what SARIF 2.1.0 requires (sections
// 3.13, 3.14, 3.18, 3.19, 3.27, 3.29, 3.4 and 3.49 of the standard).
func TestImageCheckSARIF(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if exit := Main(t.Context(), []string{"image", "check", rootfs(t, "root::1::::::\n"), "--sarif"}, Stdio{In: strings.NewReader(""), Out: &out, Err: &out}); exit != 7 {
		t.Fatal(exit, out.String())
	}
	type message struct {
		Text string `json:"text"`
	}
	var log struct {
		Schema  string `json:"$schema"`
		Version string `json:"version"`
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string `json:"name"`
					Rules []struct {
						ID      string            `json:"id"`
						Short   message           `json:"shortDescription"`
						Default map[string]string `json:"defaultConfiguration"`
					} `json:"rules"`
				} `json:"driver"`
			} `json:"tool"`
			Bases       map[string]any `json:"originalUriBaseIds"`
			Invocations []struct {
				OK    *bool `json:"executionSuccessful"`
				Notes []struct {
					Message message `json:"message"`
				} `json:"toolExecutionNotifications"`
			} `json:"invocations"`
			Results []struct {
				RuleID    string  `json:"ruleId"`
				RuleIndex int     `json:"ruleIndex"`
				Level     string  `json:"level"`
				Message   message `json:"message"`
				Locations []struct {
					Physical struct {
						Artifact struct {
							URI  string `json:"uri"`
							Base string `json:"uriBaseId"`
						} `json:"artifactLocation"`
						Region *struct {
							Line int `json:"startLine"`
						} `json:"region"`
					} `json:"physicalLocation"`
				} `json:"locations"`
			} `json:"results"`
		} `json:"runs"`
	}
	if err := json.Unmarshal(out.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	levels := map[string]bool{"none": true, "note": true, "warning": true, "error": true}
	if log.Version != "2.1.0" || log.Schema == "" || len(log.Runs) != 1 {
		t.Fatalf("%+v", log)
	}
	run := log.Runs[0]
	if run.Tool.Driver.Name != "slipway" || len(run.Invocations) != 1 || run.Invocations[0].OK == nil || len(run.Invocations[0].Notes) == 0 || len(run.Results) != 2 {
		t.Fatalf("%+v", run)
	}
	for _, r := range run.Tool.Driver.Rules {
		if r.ID == "" || r.Short.Text == "" || !levels[r.Default["level"]] {
			t.Errorf("%+v", r)
		}
	}
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID || !levels[r.Level] || r.Message.Text == "" || len(r.Locations) != 1 {
			t.Errorf("%+v", r)
		}
		p := r.Locations[0].Physical
		if _, err := url.Parse(p.Artifact.URI); err != nil || strings.Contains(p.Artifact.URI, " ") || run.Bases[p.Artifact.Base] == nil {
			t.Errorf("%+v", p)
		}
		if r.RuleID == "password" && (p.Artifact.URI != "etc/shadow" || p.Region == nil || p.Region.Line != 1 || r.Level != "error") {
			t.Errorf("%+v", r)
		}
		if r.RuleID == "setuid" && p.Artifact.URI != "opt/a%20tool" {
			t.Errorf("%+v", r)
		}
	}
}
