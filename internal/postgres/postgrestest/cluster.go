// Package postgrestest starts a PostgreSQL server for tests: Debian's programs, a
// private cluster in a temporary folder, on a Unix socket alone. It is no leftover
// of the machine: who runs the tests as root gets it as user nobody.
package postgrestest

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Cluster is a running server.
type Cluster struct {
	dir, bin string
	cmd      *exec.Cmd
	conf     []string
}

const install = "apt-get install postgresql (scripts/packages)"

// shared is the cluster of a test binary, started by who needs it first.
var shared struct {
	main bool
	once sync.Once
	dir  string
	c    *Cluster
	err  error
}

var number atomic.Int64

// Main runs the tests of a package; those who ask for it share one cluster.
func Main(m *testing.M) {
	shared.main = true
	code := m.Run()
	if shared.c != nil {
		shared.c.stop(syscall.SIGQUIT)
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// Shared gives the cluster of the test binary.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	if !shared.main {
		t.Fatal("the package has no TestMain that calls postgrestest.Main")
	}
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "pg-"); shared.err == nil {
			shared.c, shared.err = start(shared.dir)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.c
}

// Schema gives the address of an empty schema of the shared cluster.
func Schema(t testing.TB) string {
	t.Helper()
	return Shared(t).Schema(t)
}

// New starts a server of its own for a test.
func New(t testing.TB) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.stop(syscall.SIGQUIT) })
	return c
}

// Start starts a server in dir, which must exist; for programs that are no test.
// stop ends it.
func Start(dir string) (c *Cluster, stop func(), err error) {
	c, err = start(dir)
	if err != nil {
		return nil, nil, err
	}
	return c, func() { c.stop(syscall.SIGQUIT) }, nil
}

// Schema makes an empty schema and gives its address.
func (c *Cluster) Schema(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", number.Add(1))
	c.SQL(t, "CREATE SCHEMA "+name)
	return c.URL() + "&search_path=" + name
}

// URL is the address of the server's database postgres.
func (c *Cluster) URL() string {
	return "postgresql://postgres@/postgres?host=" + url.QueryEscape(c.dir)
}

// Dir is where the socket lies.
func (c *Cluster) Dir() string { return c.dir }

// Pid is the server's process.
func (c *Cluster) Pid() int { return c.cmd.Process.Pid }

// SQL runs statements as the superuser, and gives what they print.
func (c *Cluster) SQL(t testing.TB, script string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(c.bin, "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", c.dir, "-U", "postgres", "-d", "postgres", "-c", script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Conf replaces a configuration file of the server, and has it read.
func (c *Cluster) Conf(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, "data", name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c.SQL(t, "SELECT pg_reload_conf()")
}

// Stop ends the server as a crash does; Restart starts it again.
func (c *Cluster) Stop() { c.stop(syscall.SIGQUIT) }

// Restart starts a server that was stopped.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) stop(sig syscall.Signal) {
	if c.cmd == nil {
		return
	}
	c.cmd.Process.Signal(sig)
	c.cmd.Wait()
	c.cmd = nil
}

// bin finds Debian's programs, which are not on the PATH.
func bin() (string, error) {
	if list, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(list) > 0 {
		return filepath.Dir(list[len(list)-1]), nil
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			return filepath.Dir(p), nil
		}
	}
	return "", fmt.Errorf("initdb is missing: %s", install)
}

// nobody is the user that a server runs as when we are root: it refuses root.
const nobody = 65534

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "LC_ALL=C.UTF-8")
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Setpgid: true}
	}
	return cmd
}

func start(dir string) (*Cluster, error) {
	b, err := bin()
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			return nil, err
		}
	}
	c := &Cluster{dir: dir, bin: b}
	if out, err := c.command("initdb", "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %v\n%s", err, out)
	}
	return c, c.run()
}

func (c *Cluster) run() error {
	log, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"-D", filepath.Join(c.dir, "data"), "-k", c.dir, "-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=32MB", "-c", "fsync=off"}, c.conf...)
	cmd := c.command("postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	c.cmd = cmd
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if exec.Command(filepath.Join(c.bin, "pg_isready"), "-q", "-h", c.dir).Run() == nil {
			return nil
		}
		if time.Now().After(end) {
			c.stop(syscall.SIGKILL)
			text, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("the server does not answer\n%s", text)
		}
	}
}
