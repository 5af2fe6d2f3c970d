package hashpg

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"slipway/internal/crashtest"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/postgres/postgrestest"
)

// reporter is the process that TestWhatWasAnsweredSurvivesAKill kills: it reports,
// and prints what it was answered.
func reporter(url string) error {
	d, err := Open(context.Background(), url, Options{})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				i := g*1_000_000 + n
				u, err := d.Report(context.Background(), "m", h(i), h(1<<40+i/3), h(i), hashdb.Extra{PN: "p"})
				if err != nil {
					return
				}
				mu.Lock()
				fmt.Printf("answered %s %s\n", h(i), u)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// Every answer of a process that is killed is in the database, and the database is
// whole: another process goes on at once.
func TestWhatWasAnsweredSurvivesAKill(t *testing.T) {
	t.Parallel()
	url := postgrestest.Schema(t)
	other := open(t, url, Options{})
	total := 0
	for round := range 3 {
		cmd := crashtest.Self("report", url)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		answers := map[string]string{}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "answered" && len(f[2]) == 64 {
				answers[f[1]] = f[2]
			}
			if len(answers) == 100*(round+1) {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		if len(answers) < 100 {
			t.Fatalf("%d answers only", len(answers))
		}
		for task, u := range answers {
			if got := stream(t, other, "m", task); got != u {
				t.Errorf("%s was answered for %s, the database says %q", u, task, got)
			}
		}
		total += len(answers)
		if u := report(t, other, 1<<42+round, 1<<41+round, 5); u != h(5) {
			t.Error("the other process:", u)
		}
	}
	t.Log(total, "answers, all kept")
}
