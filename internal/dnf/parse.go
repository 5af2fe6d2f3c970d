package dnf

import (
	"regexp"
	"sort"
	"strconv"
	"strings"

	"slipway/internal/distro"
)

// Verify is one line of "rpm -Va": a file that is not as its package says, or a
// problem of another kind.
type Verify struct {
	Path string
	// Flags are the nine letters of rpm --verify: S size, M mode, 5 digest, D device,
	// L link, U user, G group, T time, P capabilities; "." passed, "?" could not be read.
	Flags string
	// Attr is c config, d doc, g ghost, l license, r readme, a artifact, or "".
	Attr    string
	Missing bool
	// Problem is what else rpm said (an unsatisfied dependency, a failed verify
	// script); then Path is "".
	Problem string
}

// String gives the line as rpm prints it.
func (v Verify) String() string {
	if v.Problem != "" {
		return v.Problem
	}
	flags, attr := v.Flags+"  ", v.Attr
	if v.Missing {
		flags = "missing   "
	}
	if attr == "" {
		attr = " "
	}
	return flags + attr + " " + v.Path
}

var verifyLine = regexp.MustCompile(`^(missing   |[.?SM5DLUGTP]{9}  )([cdglra ]) (/.*)$`)

// ParseVerify reads rpm -Va's output. Whatever it does not know becomes a
// Problem: nothing is passed over.
func ParseVerify(out string) []Verify {
	var all []Verify
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		m := verifyLine.FindStringSubmatch(line)
		if m == nil {
			all = append(all, Verify{Problem: strings.TrimSpace(line)})
			continue
		}
		v := Verify{Path: m[3], Attr: strings.TrimSpace(m[2])}
		if strings.HasPrefix(m[1], "missing") {
			v.Missing = true
		} else {
			v.Flags = strings.TrimSpace(m[1])
		}
		all = append(all, v)
	}
	// rpm's order is that of its database.
	sort.SliceStable(all, func(i, j int) bool { return all[i].Path < all[j].Path })
	return all
}

// PackageFormat is how rpm -q --qf lists packages for [ParsePackages].
const PackageFormat = `%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t%{SHA256HEADER}\t%{SOURCERPM}\n`

// ParsePackages reads lines of PackageFormat; keys (gpg-pubkey) are left out.
func ParsePackages(out string) []distro.PackageRecord {
	var all []distro.PackageRecord
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 7 || f[0] == "gpg-pubkey" {
			continue
		}
		epoch, _ := strconv.Atoi(f[1])
		p := distro.PackageRecord{Name: f[0], Epoch: epoch, Version: f[2], Release: f[3], Arch: f[4]}
		if d, err := distro.ParseDigest("sha256:" + f[5]); err == nil {
			p.HeaderDigest = d
		}
		all = append(all, p)
	}
	return all
}

// What rpm and dnf print when a scriptlet went wrong.
var scriptletError = regexp.MustCompile(`(?i)^(error|warning): (%|lua script failed|.*scriptlet failed)|^Error in (<unknown>|[A-Z]+) scriptlet|scriptlet failed, (exit status|signal)|^/var/tmp/rpm-tmp\.`)

// dnf's own lines between "Running transaction" and the summary after it.
var transactionLine = regexp.MustCompile(`^\s*(Preparing|Installing|Upgrading|Downgrading|Reinstalling|Erasing|Obsoleting|Obsoleted|Cleanup|Cleaning up|Verifying|Running scriptlet|Running|Upgraded|Removing|Removed|Installed)\s*:`)

// Lines that tell of time, speed or this machine and change from run to run.
var noise = regexp.MustCompile(`^Last metadata expiration check: |^.* [0-9.]+ +[kMG]?B/s \| `)

// clean drops empty lines and noise, and keeps what a progress line shows last.
func clean(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, " \r\n")
		if i := strings.LastIndexByte(line, '\r'); i >= 0 {
			line = line[i+1:]
		}
		if line == "" || noise.MatchString(line) {
			continue
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// ScriptletLines finds in a transcript the errors of scriptlets, and what scriptlets
// and rpm said otherwise while the transaction ran.
func ScriptletLines(output string) (failures, talk []string) {
	running := false
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, " \r\n")
		switch {
		case scriptletError.MatchString(line):
			failures = append(failures, line)
		case line == "Running transaction":
			running = true
		case running && (line == "Installed:" || line == "Upgraded:" || line == "Downgraded:" || line == "Removed:" || line == "Complete!" || line == "Skipped:" || line == "Failed:"):
			running = false
		case running && line != "" && !transactionLine.MatchString(line):
			talk = append(talk, strings.TrimSpace(line))
		case strings.HasPrefix(line, "warning: "):
			talk = append(talk, line)
		}
	}
	return failures, talk
}

// What dnf and rpm say when they refuse for the sake of a signature or digest.
var denied = regexp.MustCompile(`(?i)is not signed|GPG check FAILED|GPG signature verification error|Bad GPG signature|Signing key not found|does not verify|digest.*(BAD|mismatch|NOTFOUND)|signature.*(BAD|NOTFOUND|NOKEY)|checksum doesn't match|incorrect checksum|Downloading successful, but checksum|Public key for .* is not (installed|trusted)|Failed to retrieve GPG key|repomd\.xml\.asc`)

// Refused tells whether a transcript says that dnf refuses a signature or a digest.
func Refused(output string) bool { return denied.MatchString(FailureLines(output)) }

// FailureLines picks the lines of a transcript that tell why dnf failed: from
// "Error:" on with what was said just before, else the last ones.
func FailureLines(output string) string {
	lines := strings.Split(strings.TrimRight(clean(output), "\n"), "\n")
	from := max(0, len(lines)-8)
	for i, l := range lines {
		if l == "Downloading Packages:" || l == "Running transaction" || strings.HasPrefix(l, "Dependencies resolved") {
			from = max(i+1, len(lines)-8)
		}
		if strings.HasPrefix(l, "Error:") {
			return strings.Join(lines[max(min(from, i), i-4):min(len(lines), i+12)], "\n")
		}
	}
	return strings.Join(lines[min(from, len(lines)):], "\n")
}
