package device

import (
	"fmt"
	"io"
	"strings"
	"time"
)

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// write shows a status to a person, what matters first.
func (s Status) write(w io.Writer) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", label, fmt.Sprintf(format, args...))
	}
	serial := ""
	if s.Serial != 0 {
		serial = fmt.Sprintf(" (serial %d)", s.Serial)
	}
	line("release", "%s %s%s", s.Distribution, s.Release, serial)
	if s.Unfinished != "" {
		line("update", "interrupted (%s): slipway-device resume", s.Unfinished)
	}
	if s.Pinned != 0 {
		line("pinned", "to serial %d: slipway-device unpin follows the newest again", s.Pinned)
	}
	switch {
	case s.Newest.Serial == 0:
		line("newest", "unknown")
	case s.UpdateWaits:
		line("newest", "%s (serial %d): slipway-device update", s.Newest.Release, s.Newest.Serial)
	default:
		line("newest", "%s (serial %d), nothing waits", s.Newest.Release, s.Newest.Serial)
	}
	if s.Problem != "" {
		line("feed", "%s", strings.ReplaceAll(s.Problem, "\n", "; "))
	} else {
		line("feed", "genuine, signed %s, good till %s", date(s.Newest.Issued), date(s.Newest.Expires))
	}
	if s.SupportEnds != "" {
		ended := ""
		if !s.Supported {
			ended = ": it has ended"
		}
		security := ""
		if s.SecuritySupportEnds != "" {
			security = s.SecuritySupportEnds + " for security, "
		}
		line("support", "ends %s%s for all%s", security, s.SupportEnds, ended)
	}
	if s.RebootNeeded {
		line("reboot", "needed: %s", s.RebootBecause)
	} else {
		line("reboot", "not needed")
	}
	if len(s.Restart) > 0 {
		line("restart", "these run from files that were replaced: %s", strings.Join(s.Restart, ", "))
	}
}

func (u Update) write(w io.Writer, dry bool) {
	switch {
	case u.Nothing:
		fmt.Fprintln(w, "no update was interrupted")
	case dry && u.Plan == "":
		fmt.Fprintf(w, "serial %d, release %s: nothing would change\n", u.Serial, u.Release)
	case dry:
		fmt.Fprintf(w, "to serial %d, release %s:\n%s", u.Serial, u.Release, u.Plan)
	case u.Changed:
		fmt.Fprintf(w, "done: serial %d, release %s\n", u.Serial, u.Release)
	case u.Resumed && u.Plan == "":
		fmt.Fprintln(w, "the interrupted update is settled")
	default:
		fmt.Fprintf(w, "serial %d, release %s: nothing to do\n", u.Serial, u.Release)
	}
}
