package dnf

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/distro"
)

const verifyOutput = `S.5....T.  c /etc/greet.conf
missing   c /etc/gone.conf
missing     /usr/share/a b
.M.....T.    /usr/bin/x
Unsatisfied dependencies for greet-2-1.noarch:
	libgreet.so.1 is needed by (installed) greet-2-1.noarch
`

func TestParseVerify(t *testing.T) {
	t.Parallel()
	got := ParseVerify(verifyOutput)
	want := []Verify{
		{Problem: "Unsatisfied dependencies for greet-2-1.noarch:"},
		{Problem: "libgreet.so.1 is needed by (installed) greet-2-1.noarch"},
		{Path: "/etc/gone.conf", Attr: "c", Missing: true},
		{Path: "/etc/greet.conf", Attr: "c", Flags: "S.5....T."},
		{Path: "/usr/bin/x", Flags: ".M.....T."},
		{Path: "/usr/share/a b", Missing: true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, v := range got {
		if !strings.Contains(verifyOutput, v.String()+"\n") {
			t.Errorf("%q is not as rpm prints it", v)
		}
	}
}

func TestScriptlets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, out, fail, talk string }{
		{"clean", "Running transaction\n  Preparing        : 1/1\n  Installing       : a-1-1.noarch   1/1\n  Running scriptlet: a-1-1.noarch  1/1\n  Verifying        : a-1-1.noarch 1/1\n\nInstalled:\n  a-1-1.noarch\n\nComplete!\n", "", ""},
		{"shell", "Running transaction\n  Running scriptlet: a-1-1.noarch  1/1\nhello\nwarning: %post(a-1-1.noarch) scriptlet failed, exit status 3\n\nError in POSTIN scriptlet in rpm package a\n",
			"warning: %post(a-1-1.noarch) scriptlet failed, exit status 3|Error in POSTIN scriptlet in rpm package a", "hello"},
		{"lua", "Running transaction\nerror: lua script failed: [string \"%post(a)\"]:1: boom\nComplete!\n", `error: lua script failed: [string "%post(a)"]:1: boom`, ""},
		{"missing program", "Running transaction\n/var/tmp/rpm-tmp.KYsJp4: line 1: frob: command not found\nComplete!\n", "/var/tmp/rpm-tmp.KYsJp4: line 1: frob: command not found", ""},
		{"unknown user", "Running transaction\nwarning: user nobody does not exist - using root\nComplete!\n", "", "warning: user nobody does not exist - using root"},
	} {
		fail, talk := ScriptletLines(tt.out)
		if strings.Join(fail, "|") != tt.fail || strings.Join(talk, "|") != tt.talk {
			t.Errorf("%s: failures %q, talk %q", tt.name, fail, talk)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	in := "test      5.6 kB/s | 659  B     00:00    \nLast metadata expiration check: 0:00:02 ago on Mon Nov 23.\n\nDependencies resolved.   \n"
	if got := clean(in); got != "Dependencies resolved.\n" {
		t.Errorf("%q", got)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	p := func(name, version, header string) distro.PackageRecord {
		return distro.PackageRecord{Name: name, Version: version, Release: "1", Arch: "noarch", HeaderDigest: distro.Digest(header)}
	}
	var res Result
	res.diff(
		[]distro.PackageRecord{p("down", "2", ""), p("gone", "1", ""), p("kernel", "1", ""), p("other", "1", "a"), p("same", "1", "a"), p("up", "1", "")},
		[]distro.PackageRecord{p("down", "1", ""), p("kernel", "1", ""), p("kernel", "2", ""), p("new", "1", ""), p("other", "1", "b"), p("same", "1", "a"), p("up", "2", "")})
	want := Result{Installed: []distro.PackageRecord{p("kernel", "2", ""), p("new", "1", ""), p("other", "1", "b")}, Upgraded: []distro.PackageRecord{p("up", "2", "")},
		Downgraded: []distro.PackageRecord{p("down", "1", "")}, Removed: []distro.PackageRecord{p("gone", "1", "")}}
	if d := cmp.Diff(want, res); d != "" {
		t.Error(d)
	}
}

// Nothing that rpm says may be lost: each line is a file or a problem.
func FuzzVerify(f *testing.F) {
	f.Add(verifyOutput)
	f.Add("missing     /x (Permission denied)\n")
	f.Fuzz(func(t *testing.T, out string) {
		n := 0
		for line := range strings.Lines(out) {
			if strings.TrimSpace(line) != "" {
				n++
			}
		}
		if got := ParseVerify(out); len(got) != n {
			t.Errorf("%d lines, %d answers", n, len(got))
		}
		ScriptletLines(out)
		clean(out)
		ParsePackages(out)
		FailureLines(out)
	})
}

// TestFailureLinesOfALongError: dnf may say Error first and thirty lines of reasons.
func TestFailureLinesOfALongError(t *testing.T) {
	t.Parallel()
	got := FailureLines("Error: \n" + strings.Repeat(" Problem\n", 30))
	if !strings.HasPrefix(got, "Error:") || strings.Count(got, "\n") != 11 {
		t.Errorf("%q", got)
	}
}
