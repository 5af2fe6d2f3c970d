package flow

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Lease is how long an owner that cannot be looked at (it is on another machine,
// or in another container) is believed to live after its last heartbeat.
const Lease = time.Minute

// Owner is the process that works on a run.
type Owner struct {
	PID       int    `json:"pid"`
	BootID    string `json:"boot_id"`           // of the kernel that runs it
	StartTime string `json:"start_time"`        // of the process, in clock ticks since boot; guards against a pid given again
	Command   string `json:"command"`           // as typed, for people
	Machine   string `json:"machine,omitempty"` // digest of /etc/machine-id; tells a reboot from another machine
	PIDSpace  string `json:"pid_space,omitempty"`
}

// Self describes this process, at work on command. What the system does not tell
// stays empty, and then the lease decides about the owner's life.
func Self(command string) Owner {
	o := Owner{PID: os.Getpid(), Command: command, BootID: bootID(), StartTime: startTime(os.Getpid()), PIDSpace: pidSpace()}
	if b, err := os.ReadFile("/etc/machine-id"); err == nil {
		// machine-id(5) asks not to show it itself.
		sum := sha256.Sum256(append([]byte("slipway "), b...))
		o.Machine = hex.EncodeToString(sum[:8])
	}
	return o
}

// String gives, for example, "slipway build (process 4711)".
func (o Owner) String() string {
	if o.Command == "" {
		return fmt.Sprintf("process %d", o.PID)
	}
	return fmt.Sprintf("%s (process %d)", o.Command, o.PID)
}

// Alive reports whether the owner can still be at work, seen from this process at
// the time now. An owner of the same boot is looked up in the process table; one
// of an earlier boot of this machine is dead; of any other, nothing is known but
// its last heartbeat, and it is dead when that is older than [Lease].
func Alive(o Owner, heartbeat, now time.Time) bool {
	self := Self("")
	switch {
	case o.BootID != "" && o.BootID == self.BootID && o.PIDSpace == self.PIDSpace && o.StartTime != "":
		return startTime(o.PID) == o.StartTime
	case o.BootID != "" && o.BootID != self.BootID && o.Machine != "" && o.Machine == self.Machine:
		return false
	}
	return now.Sub(heartbeat) <= Lease
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// pidSpace tells containers apart, which share a boot but not their process ids.
func pidSpace() string {
	s, _ := os.Readlink("/proc/self/ns/pid")
	return s
}

// startTime gives field 22 of /proc/<pid>/stat, see proc_pid_stat(5); "" when
// there is no such process, or it is a zombie.
func startTime(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// Field 2 is the name in parentheses and may hold anything.
	_, rest, _ := strings.Cut(string(b[max(0, strings.LastIndexByte(string(b), ')')):]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}
