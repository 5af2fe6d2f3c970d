package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"slipway/internal/hashserv/hashpg"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

// onPostgres measures both servers on one PostgreSQL server, with the same rows,
// and says the database's part apart.
func onPostgres(ctx context.Context, c config, file string, out io.Writer) error {
	dir, err := os.MkdirTemp("", "pg-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cluster, stop, err := postgrestest.Start(dir)
	if err != nil {
		return err
	}
	defer stop()
	admin, err := postgres.Open(ctx, cluster.URL(), postgres.Options{})
	if err != nil {
		return err
	}
	defer admin.Close()
	sql := func(script string) error {
		return admin.Read(ctx, func(x *postgres.Conn) error { return x.Script(ctx, script) })
	}
	// Each has a user of its own, whose schema is the first one that it sees.
	for _, name := range []string{"ours", "theirs"} {
		if err := sql(`CREATE ROLE ` + name + ` LOGIN SUPERUSER; CREATE SCHEMA AUTHORIZATION ` + name); err != nil {
			return err
		}
	}
	url := func(scheme, user string) string {
		return strings.Replace(strings.Replace(cluster.URL(), "postgresql:", scheme+":", 1), "postgres@", user+"@", 1)
	}
	d, err := hashpg.Open(ctx, url("postgresql", "ours"), hashpg.Options{IndexBytes: -1})
	if err != nil {
		return err
	}
	_, err = d.Import(ctx, file)
	d.Close()
	if err != nil {
		return err
	}
	sides := []side{{"slipway", []string{c.slipway, "hashserv", "serve"}, url("postgresql", "ours"), c.more}}
	if c.bitbake != "" {
		theirs := side{"BitBake", []string{"/usr/bin/python3", "-W", "ignore", filepath.Join(c.bitbake, "bin/bitbake-hashserv")}, url("postgresql+asyncpg", "theirs"), nil}
		s, err := serve(c, "make-tables", theirs.argv, theirs.db)
		if err != nil {
			return err
		}
		// BitBake's server answers before its tables are there.
		for n, end := 0, time.Now().Add(30*time.Second); n < 4 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if err := admin.Read(ctx, func(x *postgres.Conn) error {
				_, err := x.Row(ctx, `SELECT count(*) FROM pg_tables WHERE schemaname = 'theirs'`, nil, &n)
				return err
			}); err != nil {
				return err
			}
		}
		s.stop()
		hash := func(column string) string { return `encode(` + column + `, 'hex')` }
		if err := sql(`INSERT INTO theirs.unihashes_v3 (method, taskhash, unihash, gc_mark) SELECT m.name, ` + hash("u.task") + `, ` + hash("coalesce(u.uni, u.task)") + `, '' FROM ours.hash_unihash u JOIN ours.hash_method m ON m.id = u.method;
			INSERT INTO theirs.outhashes_v2 (method, taskhash, outhash, created) SELECT m.name, ` + hash("o.task") + `, ` + hash(`o."out"`) + `, to_timestamp(o.created / 1000000.0) FROM ours.hash_outhash o JOIN ours.hash_method m ON m.id = o.method`); err != nil {
			return err
		}
		sides = append(sides, theirs)
	}
	// VACUUM is alone in its script: it is no part of a transaction.
	if err := sql(`VACUUM ANALYZE`); err != nil {
		return err
	}
	c.database = func() time.Duration { return treeTime(cluster.Pid()) }
	results := map[string][][]result{}
	if err := measureSides(ctx, c, sides, results); err != nil {
		return err
	}
	fmt.Fprintf(out, "## Hash equivalence server on PostgreSQL, %d rows\n\nRequests per CPU second of the server (median of %d runs of %s; in brackets per second of wall time), and the database's CPU for each request.\n\n", c.rows, c.runs, c.length)
	fmt.Fprint(out, "| load | connections | slipway | BitBake | ratio | lowest to highest | slipway p99 | BitBake p99 | database, slipway | database, BitBake |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, l := range loads {
		for _, n := range c.conns {
			r := results[fmt.Sprintf("%s/%d", l.name, n)]
			if len(r) == 0 {
				continue
			}
			a := median(r[0])
			if len(r) == 1 {
				fmt.Fprintf(out, "| %s | %d | %.0f (%.0f) | | | | %s | | %.1f µs | |\n", l.name, n, a.perCPU, a.perWall, a.p99, a.database)
				continue
			}
			b := median(r[1])
			low, high := math.Inf(1), 0.0
			for i := range r[0] {
				x := r[0][i].perCPU / r[1][i].perCPU
				low, high = min(low, x), max(high, x)
			}
			fmt.Fprintf(out, "| %s | %d | %.0f (%.0f) | %.0f (%.0f) | **%.0f** | %.0f to %.0f | %s | %s | %.1f µs | %.1f µs |\n", l.name, n, a.perCPU, a.perWall, b.perCPU, b.perWall, a.perCPU/b.perCPU, low, high, a.p99, b.p99, a.database, b.database)
		}
	}
	return nil
}

// treeTime is the processor time of a process, of its children, and of those that
// have ended: the fields 14 to 17 of /proc/PID/stat, in hundredths of a second.
func treeTime(pid int) time.Duration {
	stat := func(p int) (parent int, own, ended time.Duration) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 15 {
			return 0, 0, 0
		}
		n := func(i int) time.Duration {
			v, _ := strconv.Atoi(f[i])
			return time.Duration(v) * 10 * time.Millisecond
		}
		parent, _ = strconv.Atoi(f[1])
		return parent, n(11) + n(12), n(13) + n(14)
	}
	_, own, ended := stat(pid)
	sum := own + ended
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		p, _ := strconv.Atoi(filepath.Base(dir))
		if parent, own, _ := stat(p); parent == pid {
			sum += own
		}
	}
	return sum
}
