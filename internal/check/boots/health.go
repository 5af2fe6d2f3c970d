package boots

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/qemu"
)

// survey asks a device that is up everything that costs no second, in one command: each
// part after a line "@@ NAME". Every line of it works with busybox.
const survey = `PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH
for f in tcp tcp6 udp udp6; do echo "@@ $f"; cat /proc/net/$f 2>/dev/null; done
echo "@@ memory"; cat /proc/meminfo
echo "@@ kernel"; dmesg -r 2>/dev/null || dmesg
echo "@@ secrets"
sha256sum /etc/machine-id /var/lib/dbus/machine-id /etc/ssl/private/* /etc/pki/tls/private/* /etc/wireguard/*.key 2>/dev/null
sed -n 's/^root:\([^:]*\):.*/shadow \1/p' /etc/shadow 2>/dev/null
echo "@@ services"
if [ -d /run/systemd/system ]; then
	echo systemd "$(timeout 60 systemctl is-system-running --wait 2>/dev/null)"
	systemctl list-units --state=failed --no-legend --plain 2>/dev/null | sed 's/^/failed /'
else
	for l in /etc/rc?.d/S*; do
		[ -x "$l" ] || continue
		grep -q '^[^#]*status)' "$l" || continue
		t=$(readlink -f "$l"); case " $seen " in *" $t "*) continue ;; esac; seen="$seen $t"
		timeout 10 "$l" status </dev/null >/dev/null 2>&1; c=$?
		[ $c = 0 ] || echo "status $c ${t##*/}"
	done
fi
echo "@@ end"`

// seen is what a survey brought, by part.
type seen map[string][]string

// parseSurvey reads the parts of a survey; false when it did not come to its end.
func parseSurvey(text string) (seen, bool) {
	s := seen{}
	part, whole := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(line, "@@ "); ok {
			part, whole = name, name == "end"
			continue
		}
		s[part] = append(s[part], line)
	}
	return s, whole
}

// sockets gives /proc/net's tables as [listening] reads them.
func (s seen) sockets() string {
	var b strings.Builder
	for _, p := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b.WriteString(p + "\n")
		for _, l := range s[p] {
			if len(strings.Fields(l)) > 1 {
				b.WriteString(l + "\n")
			}
		}
	}
	return b.String()
}

// used gives what of the device's memory is in use and how much it has, in bytes
// (MemTotal and MemAvailable, proc(5)).
func (s seen) used() (used, total int64, ok bool) {
	value := func(name string) int64 {
		for _, l := range s["memory"] {
			if f := strings.Fields(l); len(f) == 3 && f[0] == name+":" && f[2] == "kB" {
				n, _ := strconv.ParseInt(f[1], 10, 64)
				return n << 10
			}
		}
		return -1
	}
	total, free := value("MemTotal"), value("MemAvailable")
	return total - free, total, total > 0 && free >= 0
}

var rawLine = regexp.MustCompile(`^<(\d{1,3})>\s*(?:\[\s*\d+\.\d+\]\s*)?(.*)$`)

// kernelErrors picks the kernel's own messages of level err and above (0 to 3; the
// priority in <> has the facility times eight, and the kernel's is 0) from lines of
// dmesg -r, without their times. raw is false when the lines bear no priorities.
func kernelErrors(lines []string) (errors []string, raw bool) {
	for _, l := range lines {
		m := rawLine.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		raw = true
		if n, _ := strconv.Atoi(m[1]); n <= 3 && strings.TrimSpace(m[2]) != "" {
			errors = append(errors, printable(m[2]))
		}
	}
	return errors, raw
}

// printable makes a line of a device fit to be shown.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return strings.TrimSpace(s)
}

var (
	numbers  = regexp.MustCompile(`0x[0-9a-fA-F]+|[0-9][0-9a-fA-F]*`)
	slugDull = regexp.MustCompile(`[^a-z0-9]+`)
)

// shape of a line: what stays when numbers and addresses change from boot to boot.
func shape(line string) string { return numbers.ReplaceAllString(line, "#") }

// slug makes a shape a part of a finding's id.
func slug(line string) string {
	s := strings.Trim(slugDull.ReplaceAllString(strings.ToLower(strings.ReplaceAll(shape(line), "#", "n")), "-"), "-")
	if len(s) > 60 {
		s = strings.Trim(s[:60], "-") + "-" + distro.DigestOf([]byte(shape(line))).Short()[:6]
	}
	return s
}

func allowed(patterns []string, line string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return distro.MatchText(p, line) })
}

// maxLines are the findings of one kind that a device gets: a kernel that screams has
// one reason.
const maxLines = 20

// kernelLog tells of errors that the last release's kernel did not report.
func (d *device) kernelLog(s seen) {
	d.asked++
	found, raw := kernelErrors(s["kernel"])
	if !raw {
		d.find("kernel", "dmesg -r must work for root: busybox with its option for it, or util-linux", "the kernel's log cannot be read on the device: nobody knows what it reports")
		return
	}
	level := distro.Block
	if d.before == nil {
		level = distro.Warn
	}
	n := 0
	for _, l := range found {
		if d.told[shape(l)] || d.before[shape(l)] || allowed(d.image.Log, l) {
			continue
		}
		d.told[shape(l)] = true
		if n++; n > maxLines {
			continue
		}
		text := "the kernel reports an error that it did not report in the last release: %s"
		if d.before == nil {
			text = "the kernel reports an error, and no log of an earlier release is there to tell whether it is new: %s"
		}
		d.find("kernel:"+slug(l), "find out what it means; what is harmless goes into the board's policy: boot: {log: [...]}", text, l)
		d.findings[len(d.findings)-1].Level = level
	}
	if n > maxLines {
		d.find("kernel", "", "the kernel reports %d more errors", n-maxLines)
		d.findings[len(d.findings)-1].Level = level
	}
}

// services tells of units and init scripts that failed.
func (d *device) services(s seen) {
	d.asked++
	fail := func(name, how string) {
		if name = printable(name); name == "" || allowed(d.image.Failed, name) || d.told["service "+name] {
			return
		}
		d.told["service "+name] = true
		d.find("service:"+strings.ReplaceAll(name, " ", "-"), "read its log on the device; what may fail goes into the board's policy: boot: {failed: [...]}", "service %s %s", name, how)
	}
	for _, l := range s["services"] {
		f := strings.Fields(l)
		switch {
		case len(f) >= 2 && f[0] == "failed":
			fail(f[1], "failed, says systemctl --failed: "+printable(strings.Join(f[2:], " ")))
		case len(f) == 2 && f[0] == "systemd" && f[1] != "running" && f[1] != "degraded", len(f) == 1 && f[0] == "systemd":
			d.find("service:systemd", "a job that never ends, or a unit that waits for what does not come: systemctl list-jobs", "systemd is not done with starting after 60 s: %q", strings.Join(f[1:], " "))
		case len(f) == 3 && f[0] == "status":
			fail(f[2], "is enabled and does not run: its init script says so, status ends with "+f[1])
		}
	}
}

// trouble are words with which an init script says on the console that it did not do
// its work; lines of the kernel are told by its log.
var (
	trouble    = regexp.MustCompile(`(?i)\bfail(ed|ure|s)?\b|did not start|cannot (be )?(start|open|find|exec)|not found|no such file or directory|permission denied|segmentation fault|core dumped`)
	kernelLine = regexp.MustCompile(`(<\d+>)?\[\s*\d+\.\d{6}\]`)
)

// said is what a line of the console has before a message of the kernel, which may begin
// in its middle.
func said(line string) string {
	if at := kernelLine.FindStringIndex(line); at != nil {
		return line[:at[0]]
	}
	return line
}

// console tells of lines of the console, of both boots, that speak of a failure.
func (d *device) consoleLog() error {
	d.asked++
	f, err := os.Open(d.file.Path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	n := 0
	lines := bufio.NewReaderSize(f, 64<<10)
	for {
		text, err := lines.ReadString('\n')
		if line := printable(said(text)); trouble.MatchString(line) && !allowed(d.image.Log, line) && !d.told["console "+shape(line)] {
			d.told["console "+shape(line)] = true
			if n++; n <= maxLines {
				d.find("console:"+slug(line), "read the serial log; what is harmless goes into the board's policy: boot: {log: [...]}", "the console tells of a failure: %s", line)
				d.findings[len(d.findings)-1].Level = distro.Warn
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// limits holds the device against the board's policy.
func (d *device) limits(guest *qemu.Guest, s seen) {
	if d.image.Login > 0 {
		d.asked++
		if own := guest.OwnTimeToReady(); own > d.image.Login {
			d.find("slow", "find out what it waits for; or raise boot: {login: SECONDS}", "the login comes after %.1f s, the board's limit is %.0f s", own.Seconds(), d.image.Login.Seconds())
		}
	}
	used, total, ok := s.used()
	if !ok {
		if d.image.Memory > 0 {
			d.find("memory", "", "the device does not tell what memory it uses, and the board has a limit of %d MiB", d.image.Memory>>20)
		}
		return
	}
	d.used = max(d.used, used)
	if d.image.Memory > 0 {
		d.asked++
		if used > d.image.Memory {
			d.find("memory", "find out what holds it; or raise boot: {memory: SIZE}", "the booted device uses %d of its %d MiB, the board's limit is %d MiB", used>>20, total>>20, d.image.Memory>>20)
		}
	}
}

// kernelFile names the evidence that the next release's kernel log is held against.
func kernelFile(i check.BootImage) string { return i.Board + "-" + i.Image + "-kernel.log" }

// before reads which errors the last release's kernel reported, by their shape; nil when
// nobody kept its log.
func before(ctx context.Context, bed *check.Bed, i check.BootImage) (map[string]bool, error) {
	for _, a := range bed.BaseArtifacts {
		if a.Name != "test/boots/"+kernelFile(i) {
			continue
		}
		r, err := a.Open(ctx)
		if err != nil {
			return nil, fmt.Errorf("the kernel log of the last release: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(r, 16<<20))
		if e := r.Close(); err == nil {
			err = e
		}
		if err != nil {
			return nil, fmt.Errorf("the kernel log of the last release: %w", err)
		}
		out := map[string]bool{}
		found, _ := kernelErrors(strings.Split(string(text), "\n"))
		for _, l := range found {
			out[shape(l)] = true
		}
		return out, nil
	}
	return nil, nil
}
