// Package crashtest kills a program at every system call that changes a disk, one
// run per call, or lets each such call fail, and asks the test after each run
// whether what is left is sound.
//
//	func TestPublishSurvivesKills(t *testing.T) {
//		crashtest.KillEach(t, crashtest.Options{
//			Command: func(n int) *exec.Cmd { return exec.Command("slipway", "--dir", workspace(n), "publish", "1.2") },
//		}, func(t *testing.T, n int) {
//			// reopen the workspace of run n: old or new? does the same command finish?
//		})
//	}
//
// It works by strace(1). An unharmed run is traced; every call in the trace is a
// point, told to strace as "the k-th fsync". strace counts for each thread by
// itself; so that runs are alike, a child made for crash tests does its work on
// one thread ([Main]). A program that uses several threads is killed when the
// first of them comes to its k-th fsync: each run still dies at a write, but runs
// differ and some writes may not be hit.
//
// The short form samples [Options].Sample points spread over the whole run;
// SLIPWAY_TEST=full in the environment takes every one.
package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Mutating are the system calls that change a file system, as strace names them;
// "?" marks those that some machines lack. openat is not among them: what it
// creates is seen by a kill at the next call.
var Mutating = []string{
	"write", "pwrite64", "writev", "pwritev", "pwritev2", "?sendfile", "copy_file_range", "splice",
	"fsync", "fdatasync", "sync_file_range", "msync", "ftruncate", "truncate", "fallocate",
	"?rename", "renameat", "renameat2", "?link", "linkat", "?symlink", "symlinkat",
	"?unlink", "unlinkat", "?mkdir", "mkdirat", "?rmdir",
	"?chmod", "fchmod", "fchmodat", "?chown", "fchown", "fchownat", "?utimensat",
}

// Options say what to run and how.
type Options struct {
	// Command gives the program for run n, ready to start: each n gets its own
	// folder to work in. Run 0 is not harmed and must succeed. Command is called
	// from several goroutines at once.
	Command func(n int) *exec.Cmd
	// Syscalls are those that count; Mutating when empty.
	Syscalls []string
	// Sample is how many points the short form takes; 20 when 0.
	Sample int
	// Children lets the programs that the program starts be killed and failed,
	// too. Otherwise they are left alone while they run, and are killed when the
	// run is over.
	Children bool
	// Sticky lets FailEach fail the n-th call and all after it, as a disk that
	// stays full does. The program cannot then print, either: it has its exit
	// code to tell what happened.
	Sticky bool
}

// Result is how a program ended whose call had failed.
type Result struct {
	Code   int    // exit code
	Output string // stdout and stderr
}

// KillEach runs the program once for every mutating call that it makes (or a
// sample of them), and kills it on entering that call, before the call is done.
// check is called after each run in a subtest of its own; n is the argument of
// Command. Run 0, unharmed, is checked, too. It returns when all are checked, and
// gives how many runs were killed.
func KillEach(t *testing.T, o Options, check func(t *testing.T, n int)) int {
	t.Helper()
	return o.each(t, "signal=KILL", func(t *testing.T, n int, r Result, killed bool) {
		if !killed && r.Code != 0 {
			t.Fatalf("run %d was not killed but ended with exit code %d:\n%s", n, r.Code, r.Output)
		}
		check(t, n)
	})
}

// FailEach is KillEach, but the call fails with an error (ENOSPC, EIO, EROFS) and
// the program goes on. check sees how it ended. Run 0 is not checked.
func FailEach(t *testing.T, o Options, errno string, check func(t *testing.T, n int, r Result)) int {
	t.Helper()
	return o.each(t, "error="+errno, func(t *testing.T, n int, r Result, killed bool) {
		if n == 0 {
			return
		}
		if killed {
			t.Fatalf("run %d was killed by a signal:\n%s", n, r.Output)
		}
		// The runtime of Go wakes its threads by a write, too, and gives up when it
		// fails. No disk fails there.
		if strings.Contains(r.Output, "runtime: netpollBreak write failed") {
			t.Skip("the failed call was one of the Go runtime")
		}
		check(t, n, r)
	})
}

func (o Options) each(t *testing.T, inject string, check func(*testing.T, int, Result, bool)) int {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("crash tests need strace: apt-get install strace")
	}
	if len(o.Syscalls) == 0 {
		o.Syscalls = Mutating
	}
	if o.Sample == 0 {
		o.Sample = 20
	}
	var calls []call
	t.Run("unharmed", func(t *testing.T) {
		var r Result
		r, calls = o.trace(t)
		if r.Code != 0 {
			t.Fatalf("the unharmed run ended with exit code %d:\n%s", r.Code, r.Output)
		}
		check(t, 0, r, false)
	})
	if t.Failed() {
		t.FailNow()
	}
	if len(calls) == 0 {
		t.Fatal("the program makes no system call that changes a disk: there is nothing to harm")
	}
	sample := points(len(calls), o.Sample, os.Getenv("SLIPWAY_TEST") == "full")
	hit := make([]bool, len(calls)+1)
	t.Run("harmed", func(t *testing.T) {
		for _, n := range sample {
			t.Run(fmt.Sprintf("%d-%s", n, calls[n-1]), func(t *testing.T) {
				t.Parallel()
				r, killed := o.run(t, n, calls[:n], inject)
				hit[n] = killed
				check(t, n, r, killed)
			})
		}
	})
	harmed := 0
	for _, h := range hit {
		if h {
			harmed++
		}
	}
	t.Logf("%s: %d of %d calls harmed, %d runs killed", inject, len(sample), len(calls), harmed)
	return harmed
}

// points spreads sample points over 1..total, both ends included.
func points(total, sample int, full bool) []int {
	if full || total <= sample {
		sample = total
	}
	var out []int
	for i := range sample {
		n := 1
		if sample > 1 {
			n += i * (total - 1) / (sample - 1)
		}
		out = append(out, n)
	}
	return slices.Compact(out)
}

// call is the k-th call of that name that a thread makes, counted from 1.
type call struct {
	name string
	k    int
}

func (c call) String() string { return fmt.Sprintf("%s-%d", c.name, c.k) }

// trace runs the program unharmed and gives its mutating calls in their order.
func (o Options) trace(t *testing.T) (Result, []call) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "calls")
	r, _ := o.strace(t, o.Command(0), "-o", log, "-e", "trace="+strings.Join(o.Syscalls, ","))
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return r, parse(string(b))
}

// Trace runs the program unharmed, as run 0, and gives its calls in their order as
// strace -y prints them, file descriptors with their paths: for tests of what must
// be synced before what, which a kill cannot show.
func Trace(t *testing.T, o Options) []string {
	t.Helper()
	if len(o.Syscalls) == 0 {
		o.Syscalls = Mutating
	}
	log := filepath.Join(t.TempDir(), "calls")
	if r, _ := o.strace(t, o.Command(0), "-y", "-s", "4096", "-o", log, "-e", "trace="+strings.Join(o.Syscalls, ",")); r.Code != 0 {
		t.Fatalf("exit code %d:\n%s", r.Code, r.Output)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		_, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		lines = append(lines, strings.TrimSpace(call))
	}
	return lines
}

// parse reads what strace -f wrote: "PID NAME(ARGUMENTS". Lines of signals, ends
// and resumed calls have no name there.
func parse(log string) []call {
	type thread struct{ pid, name string }
	seen := map[thread]int{}
	known := map[call]bool{}
	var calls []call
	for line := range strings.Lines(log) {
		pid, rest, _ := strings.Cut(line, " ")
		name, _, ok := strings.Cut(strings.TrimSpace(rest), "(")
		// A call that this strace has no name for cannot be injected, either.
		if !ok || strings.ContainsAny(name, " <>+-") || strings.HasPrefix(name, "syscall_") {
			continue
		}
		seen[thread{pid, name}]++
		if c := (call{name, seen[thread{pid, name}]}); !known[c] {
			known[c] = true
			calls = append(calls, c)
		}
	}
	return calls
}

// run harms the last of calls.
func (o Options) run(t *testing.T, n int, calls []call, inject string) (Result, bool) {
	t.Helper()
	last := calls[len(calls)-1]
	args := []string{"-o", "/dev/null", "-e", "trace=" + strings.Join(o.Syscalls, ",")}
	if !o.Sticky {
		args = append(args, "-e", fmt.Sprintf("inject=%s:%s:when=%d", last.name, inject, last.k))
		return o.strace(t, o.Command(n), args...)
	}
	from := map[string]int{} // what each call had counted up to then
	for _, name := range o.Syscalls {
		from[strings.TrimPrefix(name, "?")] = 0
	}
	for _, c := range calls[:len(calls)-1] {
		from[c.name] = max(from[c.name], c.k)
	}
	for _, name := range o.Syscalls {
		args = append(args, "-e", fmt.Sprintf("inject=%s:%s:when=%d+", name, inject, from[strings.TrimPrefix(name, "?")]+1))
	}
	return o.strace(t, o.Command(n), args...)
}

// strace runs cmd below strace and reports how it ended, and whether by SIGKILL.
func (o Options) strace(t *testing.T, cmd *exec.Cmd, args ...string) (Result, bool) {
	t.Helper()
	args = append([]string{"-f", "-qq"}, args...)
	if o.Children {
		args = append(args, "--seccomp-bpf") // stops at the calls that count only; not possible with -b
	} else {
		args = append(args, "-b", "execve") // lets go of the programs that it starts
	}
	run := exec.CommandContext(context.WithoutCancel(t.Context()), "strace", append(append(args, "--", cmd.Path), cmd.Args[1:]...)...)
	run.Env, run.Dir, run.Stdin = cmd.Env, cmd.Dir, cmd.Stdin
	// A file, not a pipe: children that outlive the program would keep a pipe open.
	out, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	run.Stdout, run.Stderr = out, out
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	err = run.Wait()
	// What the program had started must not go on writing while check looks. The
	// group is our own.
	syscall.Kill(-run.Process.Pid, syscall.SIGKILL)
	text, rerr := os.ReadFile(out.Name())
	if rerr != nil {
		t.Fatal(rerr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	ws := run.ProcessState.Sys().(syscall.WaitStatus)
	return Result{run.ProcessState.ExitCode(), string(text)}, ws.Signaled() && ws.Signal() == syscall.SIGKILL
}
