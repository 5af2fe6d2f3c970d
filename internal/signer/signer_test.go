package signer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

var (
	made = time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)
	now  = made.AddDate(0, 1, 0)
)

// TestMain lets the tests start this binary as a signer, and as a stranger.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "serve":
		os.Exit(serveChild(os.Args[2], os.Args[4]))
	case len(os.Args) > 2 && os.Args[1] == "stranger":
		c, err := Dial(context.Background(), os.Args[2], 0)
		if err == nil {
			_, err = c.Role(context.Background(), keyring.Package, now)
		}
		fmt.Println(errs.KindOf(err), err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serveChild(dir, socket string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &Server{Local: local(dir)}
	if dir == "/nowhere" {
		_ = Ready(os.Stdout, s.Unlock(ctx, keyring.Package))
		return 5
	}
	l, err := Listen(socket, false)
	if err := Ready(os.Stdout, err); err != nil {
		return 1
	}
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	if err = s.Serve(ctx, l); err == nil {
		err = s.Close()
	}
	if err != nil {
		return 1
	}
	return 0
}

func local(dir string) *Local {
	return &Local{Folder: keyring.Folder{Dir: dir}, Distribution: "halyard", Clock: func() time.Time { return now }}
}

var keys = sync.OnceValue(func() []*sign.Key {
	var out []*sign.Key
	for range 5 {
		k, err := sign.Generate(sign.Options{Name: "Test", Created: made})
		if err != nil {
			panic(err)
		}
		out = append(out, k)
	}
	return out
})

// folder has keys for package, metadata and sstate.
func folder(t testing.TB) keyring.Folder {
	t.Helper()
	f := keyring.Folder{Dir: filepath.Join(t.TempDir(), "keys")}
	ring := keyring.New("halyard")
	for i, role := range keyring.Roles[:3] {
		k, err := ring.Add(role, keys()[i].Public(), made)
		if err == nil {
			err = keys()[i].Save(f.PrivatePath(k))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Save(ring); err != nil {
		t.Fatal(err)
	}
	return f
}

// serve gives a connection to a server of its own.
func serve(t testing.TB, s *Server) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := Listen(socket, s.Users != nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	c, err := Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func role(t testing.TB, c *Client, r keyring.Role) *Remote {
	t.Helper()
	s, err := c.Role(t.Context(), r, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignsAsTheKeyDoes(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c := serve(t, &Server{Local: local(f.Dir)})
	s := role(t, c, keyring.Metadata)
	k := keys()[1]
	if s.Fingerprint() != k.Fingerprint() || s.KeyID() != k.KeyID() || s.UserID() != k.UserID() || s.RPMTag() != k.RPMTag() || !bytes.Equal(s.PublicArmored(), k.PublicArmored()) {
		t.Error("another key")
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			message := strings.Repeat("x", i*33)
			got, err := s.Sign(t.Context(), strings.NewReader(message), now)
			if err != nil {
				t.Error(err)
				return
			}
			if want, err := k.Sign(t.Context(), strings.NewReader(message), now); err != nil || !bytes.Equal(got, want) {
				t.Error("another signature", err)
			}
		})
	}
	wg.Wait()
}

func TestBothKeysOfARotation(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c := serve(t, &Server{Local: local(f.Dir)})
	s := role(t, c, keyring.Metadata)
	ring, err := f.Draft("halyard")
	if err != nil {
		t.Fatal(err)
	}
	n, err := ring.Rotate(keyring.Metadata, keys()[4].Public(), 24*time.Hour, now.Add(-time.Hour))
	if err == nil {
		err = keys()[4].Save(f.PrivatePath(n))
	}
	if err == nil {
		err = f.Save(ring)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The signer that runs, and the Remote that was made before, learn of it.
	both, err := s.Sign(t.Context(), strings.NewReader("x"), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*sign.Key{keys()[1], keys()[4]} {
		if _, err := sign.Verify([]*sign.Public{k.Public()}, strings.NewReader("x"), both); err != nil {
			t.Error(err)
		}
	}
	if one, err := s.Sign(t.Context(), strings.NewReader("x"), now.Add(-2*time.Hour)); err != nil || len(one)*2 != len(both) {
		t.Error("dated before the rotation, the old key signs alone", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c := serve(t, &Server{Local: local(f.Dir), Roles: []keyring.Role{keyring.Package, keyring.Log}})
	s := role(t, c, keyring.Package)
	refused := func(name string, err error, kind errs.Kind, want string) {
		t.Helper()
		if !errs.Is(err, kind) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := c.Role(t.Context(), keyring.Log, now)
	refused("no key", err, errs.NotFound, "the keyring has no log key")
	if len(errs.Hints(err)) != 1 {
		t.Error("hints do not travel", errs.Hints(err))
	}
	_, err = c.Role(t.Context(), keyring.SState, now)
	refused("not served", err, errs.Denied, `does not sign for the role "sstate"`)
	_, err = s.Sign(t.Context(), strings.NewReader("x"), now.Add(time.Hour))
	refused("future", err, errs.Denied, "nothing is signed for the future")
	_, err = s.Sign(t.Context(), strings.NewReader("x"), made.Add(-time.Hour))
	refused("past", err, errs.Denied, "signs from 2026-11-02T03:04:05Z only")
	_, err = s.SignMidstate(t.Context(), make([]byte, 32), now)
	refused("a digest", err, errs.Invalid, "a midstate of SHA-256 is 108 bytes, this is 32")
	_, err = c.do(t.Context(), request{Op: "export", Role: keyring.Package})
	refused("op", err, errs.Invalid, `the signer knows no "export"`)

	ring, err := f.Draft("halyard")
	if err == nil {
		_, err = ring.Revoke("package-1", "stolen", now)
	}
	if err == nil {
		err = f.Save(ring)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Sign(t.Context(), strings.NewReader("x"), now)
	refused("revoked while it runs", err, errs.Denied, "was revoked on 2026-12-02T03:04:05Z: stolen")
}

func TestLog(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c := serve(t, &Server{Local: local(f.Dir)})
	m, err := sign.Hash(t.Context(), strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := role(t, c, keyring.Package).SignNamed(t.Context(), m, now.Add(-time.Hour), "pool/a.rpm"); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(f.Dir, "signed.log")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var e entry
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil {
		t.Fatal(err)
	}
	want := entry{now, now.Add(-time.Hour), keyring.Package, keys()[0].Fingerprint(), string(distro.DigestOf([]byte("hello"))), "pool/a.rpm", os.Getuid(), os.Getpid()}
	if len(lines) != 2 || e != want {
		t.Errorf("%d lines\n got %+v\nwant %+v", len(lines), e, want)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
}

// TestNothingIsSignedWithoutALog: a full disk stops the signer, not the log.
func TestNothingIsSignedWithoutALog(t *testing.T) {
	t.Parallel()
	f := folder(t)
	if err := os.Mkdir(filepath.Join(f.Dir, "signed.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := serve(t, &Server{Local: local(f.Dir)})
	if _, err := role(t, c, keyring.Package).Sign(t.Context(), strings.NewReader("x"), now); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "without a log") {
		t.Error(err)
	}
}

func TestOtherUsers(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	const nobody = 65534
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		users  []int
		others bool
		want   string
	}{
		"mode":    {nil, false, "unavailable no signer answers"},
		"peer":    {[]int{1}, true, "denied user 65534 may not have anything signed"},
		"allowed": {[]int{nobody}, true, "internal <nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("/tmp", "s") // every folder above must let nobody through
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			bin := filepath.Join(dir, "stranger")
			if b, err := os.ReadFile(exe); err != nil || os.WriteFile(bin, b, 0o755) != nil || os.Chmod(dir, 0o755) != nil {
				t.Fatal(err)
			}
			s := &Server{Local: local(folder(t).Dir), Users: tt.users}
			l, err := Listen(filepath.Join(dir, "sock"), tt.others)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Serve(ctx, l) }()
			cmd := exec.CommandContext(t.Context(), bin, "stranger", filepath.Join(dir, "sock"))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), tt.want) {
				t.Errorf("%v: %s", err, out)
			}
			// And the key itself is out of reach.
			cat := exec.CommandContext(t.Context(), "cat", filepath.Join(s.Folder.Dir, "package.key"))
			cat.SysProcAttr = cmd.SysProcAttr
			if out, err := cat.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
				t.Errorf("another user reads the key: %v", err)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := Listen(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
	if _, err := Listen(path, false); !errs.Is(err, errs.Locked) {
		t.Error(err)
	}
	l.SetUnlinkOnClose(false) // as after kill -9
	l.Close()
	l, err = Listen(path, false)
	if err != nil {
		t.Fatal("a dead signer's socket is in the way:", err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, false); !errs.Is(err, errs.Conflict) {
		t.Error(err)
	}
	if _, err := Listen(strings.Repeat("x", 101), false); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), filepath.Join(dir, "none")); !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c := serve(t, &Server{Local: local(f.Dir)})
	for _, line := range []string{"hello\n", "{}\n", "[]\n", `{"op":"sign","role":"package","at":"tomorrow"}` + "\n", strings.Repeat("x", maxLine+1) + "\n"} {
		if _, err := c.c.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		b, err := c.in.ReadBytes('\n')
		var a response
		if err != nil || json.Unmarshal(b, &a) != nil || a.Error == nil || a.Error.Kind != errs.Invalid {
			t.Fatalf("%.20q: %v %s", line, err, b)
		}
	}
}

// TestLies: a signer that gives something else than asked is found out.
func TestLies(t *testing.T) {
	t.Parallel()
	ring := keyring.New("halyard")
	k, err := ring.Add(keyring.Package, keys()[0].Public(), made)
	if err != nil {
		t.Fatal(err)
	}
	other, err := keys()[3].Sign(t.Context(), strings.NewReader("x"), now)
	if err != nil {
		t.Fatal(err)
	}
	another, err := keys()[0].Sign(t.Context(), strings.NewReader("y"), now)
	if err != nil {
		t.Fatal(err)
	}
	for name, sigs := range map[string][]signature{
		"nothing": nil, "other key": {{keys()[0].Fingerprint(), other}}, "other message": {{keys()[0].Fingerprint(), another}},
		"unknown": {{keys()[3].Fingerprint(), other}}, "garbage": {{keys()[0].Fingerprint(), []byte("x")}},
	} {
		r, err := newRemote(t.Context(), keyring.Package, now, func(_ context.Context, r request) (response, error) {
			return response{Keys: []keyring.Key{k}, Signatures: sigs}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Sign(t.Context(), strings.NewReader("x"), now); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
}

func TestChild(t *testing.T) {
	t.Parallel()
	f := folder(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c, err := Start(t.Context(), exe, []string{"serve", f.Dir}, &said)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := role(t, c, keyring.Package).Sign(t.Context(), strings.NewReader("x"), now); err != nil {
		t.Error(err)
	}
	addr := c.c.RemoteAddr().(*net.UnixAddr).Name
	if err := c.Close(); err != nil {
		t.Error(err, said.String())
	}
	if _, err := os.Stat(filepath.Dir(addr)); !os.IsNotExist(err) {
		t.Error("the socket's folder is left", err)
	}
	if _, err := role2(t, c); !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
	if _, err := Start(t.Context(), exe, []string{"serve", "/nowhere"}, &said); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "no keys of halyard in /nowhere") {
		t.Error(err)
	}
	if _, err := Start(t.Context(), "/bin/false", nil, &said); !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
}

func role2(t *testing.T, c *Client) (*Remote, error) {
	return c.Role(t.Context(), keyring.Package, now)
}

func TestPassphraseIsAskedOnce(t *testing.T) {
	t.Parallel()
	f := keyring.Folder{Dir: filepath.Join(t.TempDir(), "keys")}
	ring := keyring.New("halyard")
	k, err := ring.Add(keyring.Package, keys()[0].Public(), made)
	if err == nil {
		err = keys()[0].Protect(f.PrivatePath(k), []byte("secret"), sign.Iterated)
	}
	if err == nil {
		err = f.Save(ring)
	}
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	l := local(f.Dir)
	l.Passphrases = func(context.Context, keyring.Key) keyring.Passphrases {
		return keyring.Passphrases{File: func() ([]byte, error) { asked++; return []byte("secret"), nil }}
	}
	c := serve(t, &Server{Local: l})
	s := role(t, c, keyring.Package)
	for range 3 {
		if _, err := s.Sign(t.Context(), strings.NewReader("x"), now); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func FuzzRequest(f *testing.F) {
	dir := folder(f).Dir
	f.Add([]byte(`{"op":"keys","role":"package","at":"2026-11-03T00:00:00Z"}`))
	f.Add([]byte(`{"op":"sign","role":"package","at":"2026-11-03T00:00:00Z","midstate":"c2hhAw=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r request
		if json.Unmarshal(b, &r) != nil {
			return
		}
		if _, err := local(dir).answer(t.Context(), r, caller{}); err != nil && errs.Is(err, errs.Internal) {
			t.Error(err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	c := serve(b, &Server{Local: local(folder(b).Dir)})
	s := role(b, c, keyring.Package)
	header := bytes.Repeat([]byte("x"), 4000)
	for b.Loop() {
		if _, err := s.Sign(b.Context(), bytes.NewReader(header), now); err != nil {
			b.Fatal(err)
		}
	}
}
