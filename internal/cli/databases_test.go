package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// Passwords on the command line are refused, and never shown; in the environment
// they are taken, and never shown either.
func TestPasswordsAreNeverShown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	for _, tt := range []struct {
		code int
		says string
		args []string
	}{
		{2, "PGPASSFILE", []string{"hashserv", "serve", "--database", "postgresql://u:hush@h/db"}},
		{2, "PGPASSFILE", []string{"hashserv", "import", file, "--database", "postgresql://h/db?password=hush"}},
		{2, "PGPASSFILE", []string{"hashserv", "export", file, "--database", "postgresql+asyncpg://u:hush@h/db"}},
		{2, "HASHSERVER_DB_PASSWORD", []string{"hashserv", "serve", "--database", "postgresql://u@h/db", "--db-password", "hush"}},
		{2, "PGPASSFILE", []string{"prserv", "serve", "--file", "postgresql://u:hush@h/db"}},
		{2, "PGPASSFILE", []string{"prserv", "serve", "--start", "--file", "postgresql://u:hush@h/db"}},
		{2, "PGPASSFILE", []string{"prserv", "stats", "--file", "postgresql://u:hush@h/db"}},
		{2, "postgresql://USER", []string{"hashserv", "serve", "--database", "mysql://u:hush@h/db"}},
		{2, "postgresql://USER", []string{"prserv", "bump", "x", "--file", "sqlite://u:hush@h/db"}},
		{1, "does not answer", []string{"hashserv", "serve"}}, // from the environment
	} {
		t.Setenv("HASHSERVER_DB", "postgresql://u:hush@127.0.0.1:1/db")
		t.Setenv("HASHSERVER_DB_PASSWORD", "hush2")
		var out bytes.Buffer
		code := Main(t.Context(), tt.args, Stdio{In: strings.NewReader(""), Out: &out, Err: &out})
		if code != tt.code || !strings.Contains(out.String(), tt.says) {
			t.Errorf("%v: exit %d, want %d\n%s", tt.args, code, tt.code, out.String())
		}
		if strings.Contains(out.String(), "hush") {
			t.Errorf("%v: the password is shown\n%s", tt.args, out.String())
		}
	}
}
