package hashdb

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"slipway/internal/crashtest"
)

func TestMain(m *testing.M) {
	crashtest.Main(map[string]func(string) error{"load": load})
	os.Exit(m.Run())
}

// load reports without end, from many goroutines, and prints each answer.
func load(dir string) error {
	mergeAt = 100 // it is killed while they are moved, too
	d, err := Open(filepath.Join(dir, "h.db"), Options{})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				n := os.Getpid()<<32 + g<<24 + i
				out := n
				if i%3 == 0 {
					out = i // the same for all goroutines
				}
				uni, err := d.Report(context.Background(), "m", h(n), h(out+1<<60), h(n), Extra{})
				if err != nil {
					return
				}
				mu.Lock()
				fmt.Printf("%s %s\n", h(n), uni)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestWhatWasAnsweredSurvivesAKill kills the database under load, and compares
// each answer with what is there afterwards.
func TestWhatWasAnsweredSurvivesAKill(t *testing.T) {
	t.Parallel()
	rounds, least := 3, 1500
	if os.Getenv("SLIPWAY_TEST") == "full" {
		rounds, least = 30, 5000
	}
	dir := t.TempDir()
	answers := map[string]string{}
	for round := range rounds {
		cmd := crashtest.Self("load", dir)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(pipe)
		for n := 0; ; n++ {
			if n == least+round*117 {
				cmd.Process.Kill()
			}
			line, err := lines.ReadString('\n')
			if err != nil {
				break // half a line is no answer
			}
			task, uni, _ := strings.Cut(strings.TrimSpace(line), " ")
			answers[task] = uni
		}
		cmd.Wait()
		d, err := Open(filepath.Join(dir, "h.db"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for task, uni := range answers {
			if got := get(t, d, task); got != uni {
				t.Fatalf("round %d: %s was answered %s, and is %q", round, task, uni, got)
			}
		}
		d.WaitIndex()
		if x := d.Index(); !x.Complete || x.Rows < int64(len(answers)) {
			t.Errorf("index: %+v of %d", x, len(answers))
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d answers compared", rounds, len(answers))
}

// TestASweepGoesOnAfterARestart: the same call finds it done, or does the rest.
func TestASweepGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "h.db")
	d := open(t, path, Options{})
	var rows []Row
	for i := range 5000 {
		rows = append(rows, Row{Method: "m", Taskhash: h(i), Unihash: h(i)})
	}
	if err := d.Insert(t.Context(), rows...); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Mark(t.Context(), "M", Where{"taskhash": h(1)}); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	go func() { // the client leaves while it runs
		for d.f.Commits() < 4 {
		}
		cancel()
	}()
	d.Sweep(gone, "M")
	d.Close() // in the midst of it, or after
	again := open(t, path, Options{})
	if n, err := again.Sweep(t.Context(), "M"); err != nil || n != 4999 {
		t.Fatal(n, err)
	}
	if s, err := again.Status(t.Context()); err != nil || s.Keep+s.Remove != 1 {
		t.Fatal(s, err)
	}
}
