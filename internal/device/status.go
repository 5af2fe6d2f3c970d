package device

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/internal/distro"
)

// Status is how a device stands.
type Status struct {
	Distribution string         `json:"distribution"`
	Series       string         `json:"series"`
	Release      distro.Version `json:"release"` // by os-release
	Serial       int            `json:"serial"`  // of the last complete update; 0 is unknown
	Pinned       int            `json:"pinned"`  // serial; 0 is none
	// Unfinished is the phase of an interrupted update, "" for none.
	Unfinished Phase `json:"unfinished,omitempty"`
	// Newest is what the signed pointer says; when the feed cannot be reached or is
	// not to be trusted, what it said last, and Problem says why.
	Newest struct {
		Serial  int            `json:"serial"`
		Release distro.Version `json:"release"`
		Issued  time.Time      `json:"issued"`
		Expires time.Time      `json:"expires"`
	} `json:"newest"`
	UpdateWaits         bool   `json:"update_waits"`
	SecuritySupportEnds string `json:"security_support_ends,omitempty"` // YYYY-MM-DD
	SupportEnds         string `json:"support_ends,omitempty"`
	Supported           bool   `json:"supported"` // false once SupportEnds has passed
	RebootNeeded        bool   `json:"reboot_needed"`
	RebootBecause       string `json:"reboot_because,omitempty"`
	// Restart lists programs that still run from files that were replaced.
	Restart []string `json:"restart,omitempty"`
	Reason  string   `json:"reason,omitempty"` // of Problem, one word
	Problem string   `json:"problem,omitempty"`
}

// Status tells how the device stands; it asks the feed, and changes nothing but
// what was seen last. A feed that cannot be reached or trusted is Problem, no error.
func (d *Device) Status(ctx context.Context) (Status, error) {
	s := Status{Distribution: d.conf.Distribution, Series: d.conf.Series, Release: d.conf.Release}
	var err error
	if s.Pinned, err = d.pinned(); err != nil {
		return s, err
	}
	j, err := d.readJournal()
	if err != nil {
		return s, err
	}
	if j != nil {
		s.Unfinished = j.Phase
	}
	c, cerr := d.Check(ctx)
	st, err := d.readState()
	if err != nil {
		return s, err
	}
	p := c.Pointer
	if cerr != nil {
		s.Reason, s.Problem = string(Reason(cerr)), cerr.Error()
		p = st.Pointer
	}
	s.Serial = st.Installed
	s.Newest.Serial, s.Newest.Release, s.Newest.Issued, s.Newest.Expires = p.Serial, p.Release, p.Issued, p.Expires
	s.SecuritySupportEnds, s.SupportEnds = p.SecuritySupportEnds, p.Ends
	s.Supported = p.Ends == "" || d.now().UTC().Format(time.DateOnly) <= p.Ends
	switch {
	case s.Pinned != 0:
		s.UpdateWaits = s.Serial != s.Pinned
	case s.Serial != 0:
		s.UpdateWaits = p.Serial > s.Serial
	default: // never updated by this program: by the release alone
		s.UpdateWaits = p.Serial > 0 && p.Release.Compare(s.Release) > 0
	}
	if s.RebootBecause = d.reboot(); s.RebootBecause != "" {
		s.RebootNeeded = true
	}
	s.Restart = d.stale()
	return s, nil
}

// reboot compares the kernel that runs with the one that boots next.
func (d *Device) reboot() string {
	b, err := os.ReadFile(d.path("proc/sys/kernel/osrelease"))
	if err != nil {
		return "" // an install root: nothing runs
	}
	running := strings.TrimSpace(string(b))
	if next := d.bootsNext(); next != "" && next != running {
		return "Linux " + running + " runs, " + next + " is installed"
	}
	return ""
}

// bootsNext gives the kernel version that the boot configuration names; where
// there is none, the only one, or the newest, that has modules.
func (d *Device) bootsNext() string {
	if conf, err := keyValues(d.path("boot/slipway-boot.conf")); err == nil {
		if _, v, ok := strings.Cut(filepath.Base(conf["kernel"]), "-"); ok {
			return v
		}
	}
	best := ""
	for _, dir := range []string{"usr/lib/modules", "lib/modules"} {
		entries, _ := os.ReadDir(d.path(dir))
		for _, e := range entries {
			if best == "" || distro.RPMVerCmp(e.Name(), best) > 0 {
				best = e.Name()
			}
		}
	}
	return best
}

// stale lists programs that have a file of /usr mapped that is no longer there:
// they were started before it was replaced.
func (d *Device) stale() []string {
	var out []string
	found, _ := filepath.Glob(d.path("proc/[0-9]*/maps"))
	for _, maps := range found {
		b, err := os.ReadFile(maps)
		if err != nil || !replaced(string(b)) {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(filepath.Dir(maps), "comm"))
		if n := strings.TrimSpace(string(name)); n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

func replaced(maps string) bool {
	for line := range strings.Lines(maps) {
		f := strings.Fields(line)
		if len(f) == 7 && f[6] == "(deleted)" && (strings.HasPrefix(f[5], "/usr/") || strings.HasPrefix(f[5], "/lib")) {
			return true
		}
	}
	return false
}
