package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// job is one program to measure.
type job struct {
	name    string
	args    []string
	dir     string
	env     []string                    // beside our own
	count   int                         // of things that it works on, 0 for none
	prepare func() error                // before each run, not measured
	finish  func(context.Context) error // after each run, not measured: ends what the program left running
}

// result is what the runs of a job cost, sorted.
type result struct {
	job
	cpu    []time.Duration
	memory int64 // the largest resident set of one process, bytes
}

func (r result) median() time.Duration { return r.cpu[len(r.cpu)/2] }

// each is the median for one of the things worked on.
func (r result) each() time.Duration { return r.median() / time.Duration(max(r.count, 1)) }

// compare runs every job in turn, that many times round: what disturbs the
// machine for a while then disturbs all of them.
func compare(ctx context.Context, runs int, jobs ...job) ([]result, error) {
	out := make([]result, len(jobs))
	for range runs {
		for i, j := range jobs {
			cpu, memory, err := measureAll(ctx, j)
			if err != nil {
				return nil, err
			}
			out[i].job, out[i].cpu, out[i].memory = j, append(out[i].cpu, cpu), max(out[i].memory, memory)
		}
	}
	for i := range out {
		slices.Sort(out[i].cpu)
	}
	return out, nil
}

// measure runs a job once and gives the CPU time, user and system, of its whole
// process tree: getrusage of the program counts the descendants that it waited
// for, and those that it left behind (gpg-agent, what a sandbox detached) are
// waited for here, see becomeReaper.
func measure(ctx context.Context, j job) (time.Duration, error) {
	cpu, _, err := measureAll(ctx, j)
	return cpu, err
}

// measureAll gives the largest resident set of the program's own process, too.
func measureAll(ctx context.Context, j job) (time.Duration, int64, error) {
	if j.prepare != nil {
		if err := j.prepare(); err != nil {
			return 0, 0, err
		}
	}
	cmd := exec.CommandContext(ctx, j.args[0], j.args[1:]...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = j.dir, &out, &out
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8"), j.env...)
	// What is left behind must not keep cmd.Run waiting for the end of its output.
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		last := out.Bytes()[max(0, out.Len()-1000):]
		return 0, 0, fmt.Errorf("%s: %w\n%s", strings.Join(j.args[:min(len(j.args), 8)], " "), err, last)
	}
	if j.finish != nil {
		if err := j.finish(ctx); err != nil {
			return 0, 0, err
		}
	}
	left, err := reap(j.name)
	memory := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + left, memory, err
}

// becomeReaper makes this process the parent of every descendant whose own
// parent ends first, so that none escapes the measurement.
func becomeReaper() error {
	const prSetChildSubreaper = 36 // prctl(2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("prctl(PR_SET_CHILD_SUBREAPER): %w", errno)
	}
	return nil
}

// reap waits for all children and gives the CPU time that they took.
func reap(name string) (time.Duration, error) {
	var sum time.Duration
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		var status syscall.WaitStatus
		var ru syscall.Rusage
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, &ru)
		switch {
		case err == syscall.ECHILD:
			return sum, nil
		case err != nil && err != syscall.EINTR:
			return sum, err
		case err == nil && pid > 0:
			sum += time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
		default:
			time.Sleep(5 * time.Millisecond)
		}
	}
	return sum, fmt.Errorf("%s left a process running", name)
}

// table prints the results; ratios are of the time for each thing, against the
// result named peer ("" for none).
func (b *bench) table(head string, results []result, peer int) {
	fmt.Fprintf(b.out, "\n| %s | packages | CPU seconds (lowest to highest) | a package | beside %s |\n| --- | ---: | ---: | ---: | ---: |\n", head, results[peer].name)
	for i, r := range results {
		ratio := "1"
		if i != peer {
			ratio = fmt.Sprintf("**%.2f**", float64(r.each())/float64(results[peer].each()))
		}
		fmt.Fprintf(b.out, "| %s | %d | %s | %s | %s |\n", r.name, r.count, r.spread(), perItem(r.each()), ratio)
	}
}

func (r result) spread() string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", r.median().Seconds(), r.cpu[0].Seconds(), r.cpu[len(r.cpu)-1].Seconds())
}

func perItem(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
