package upgrades_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/internal/check"
	"slipway/internal/check/upgrades"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/dnf/dnftest"
)

// spent is the processor time of this process and all that it started: of those that have
// ended by getrusage, of those that live (dnf's server, with the runs that it waited for)
// by /proc/PID/stat (proc(5): utime, stime, cutime and cstime, in hundredths).
func spent() time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			panic(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range all {
		data, err := os.ReadFile(file)
		_, after, ok := strings.Cut(string(data), ") ")
		f := strings.Fields(after)
		if err != nil || !ok || len(f) < 15 || f[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, n := range f[11:15] {
			ticks, _ := strconv.Atoi(n)
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}

// manyPackages is one spec of 60 packages, all of which each release changes: every third
// has a scriptlet, every fifth configuration, every tenth an init script.
func manyPackages(board string, release int) string {
	var head, install, files strings.Builder
	fmt.Fprintf(&head, "Name: %s\nVersion: 1\nRelease: 1\nBuildArch: noarch\n%%description\nA test.\n", board)
	install.WriteString("%install\nmkdir -p %{buildroot}/usr/share/x %{buildroot}/etc/init.d %{buildroot}/etc/rc5.d\n")
	for i := range 60 {
		name, version := fmt.Sprintf("%s-%02d", board, i), 1+release
		fmt.Fprintf(&head, "%%package -n %s\nVersion: %d\nSummary: a test\n%%description -n %s\nA test.\n", name, version, name)
		fmt.Fprintf(&files, "%%files -n %s\n/usr/share/x/%s\n", name, name)
		fmt.Fprintf(&install, "seq %d > %%{buildroot}/usr/share/x/%s\n", 1000+version, name)
		if i%3 == 0 {
			fmt.Fprintf(&head, "%%post -n %s -p <lua>\nposix.access('/etc', 'r')\n", name)
		}
		if i%5 == 0 {
			fmt.Fprintf(&files, "%%config(noreplace) /etc/%s.conf\n", name)
			fmt.Fprintf(&install, "echo a > %%{buildroot}/etc/%s.conf\n", name)
		}
		if i%10 == 0 {
			fmt.Fprintf(&files, "/etc/init.d/%s\n/etc/rc5.d/S20%s\n", name, name)
			fmt.Fprintf(&install, "echo a > %%{buildroot}/etc/init.d/%s\nln -s ../init.d/%s %%{buildroot}/etc/rc5.d/S20%s\n", name, name, name)
		}
	}
	return head.String() + install.String() + files.String()
}

// BenchmarkMatrix is the upgrade matrix of 60 packages on 2 boards from 6 releases, to the
// candidate and back, on two processors. It is asked for by name: what it needs takes as
// long again to build.
func BenchmarkMatrix(b *testing.B) {
	if os.Getenv("BENCH_MATRIX") == "" {
		b.Skip("SKIPPED: BENCH_MATRIX=1 asks for it (scripts/bench.d/72-matrix)")
	}
	const origins = 6
	key, tool := dnftest.NewKey(b, "feed"), dnftest.Find(b)
	boards := []string{"one", "two"}
	var beds []*check.Bed
	for _, board := range boards {
		bed := &check.Bed{Tool: tool, Jobs: 2, Board: board}
		for r := range origins + 1 {
			rpms := dnftest.Build(b, manyPackages(board, r))
			key.Sign(b, rpms...)
			repo, records := key.Feed(b, rpms...)
			if len(records) != 60 {
				b.Fatalf("%d packages", len(records))
			}
			feed := check.Feed{Repos: []dnf.Repo{repo}}
			if r == origins {
				bed.Candidate, bed.Packages = feed, records
				continue
			}
			bed.Origins = append(bed.Origins, check.Origin{Name: fmt.Sprintf("random-1.%d", r+1), Version: distro.Version(fmt.Sprintf("1.%d", r+1)), Feed: feed, Packages: records})
		}
		beds = append(beds, bed)
	}
	for b.Loop() {
		before, began := spent(), time.Now()
		shared := *beds[0]
		shared.Share()
		var wg sync.WaitGroup
		for i := range beds {
			bed := shared
			bed.Board, bed.Candidate, bed.Packages, bed.Origins, bed.Dir = beds[i].Board, beds[i].Candidate, beds[i].Packages, beds[i].Origins, b.TempDir()
			wg.Go(func() {
				out, err := check.Run(b.Context(), &bed, []check.Check{upgrades.New()}, nil)
				if err != nil || out[0].Result.Error != "" || len(out[0].Result.Findings) != 0 || out[0].Result.Asked < origins*120 {
					b.Errorf("%v %s %d asked, %d findings: %.500s", err, out[0].Result.Error, out[0].Result.Asked, len(out[0].Result.Findings), fmt.Sprint(out[0].Result.Findings))
				}
			})
		}
		wg.Wait()
		b.ReportMetric((spent() - before).Seconds(), "cpu-s/matrix")
		b.ReportMetric(time.Since(began).Seconds(), "wall-s/matrix")
	}
}
