package qemu

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// server is an ssh server that takes logins as conf says.
func server(t *testing.T, conf *ssh.ServerConfig) *Guest {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	conf.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn, _, requests, err := ssh.NewServerConn(c, conf)
				if err != nil {
					_ = c.Close()
					return
				}
				go ssh.DiscardRequests(requests)
				_ = conn.Wait()
			}()
		}
	}()
	return &Guest{rig: &Rig{lab: &lab{}}, opt: Options{Name: "the device"}, gone: make(chan struct{}),
		now: &power{lab: true, address: l.Addr().String(), hostKeys: map[string]string{}, done: make(chan struct{})}}
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	empty := func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if len(p) == 0 {
			return nil, nil
		}
		return nil, no
	}
	refuse := func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, no }
	key := func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, no }
	for _, tt := range []struct {
		name     string
		conf     ssh.ServerConfig
		how      string
		password string
		asked    string
	}{
		{"keys alone", ssh.ServerConfig{PublicKeyCallback: key}, "", "", "none publickey password password"},
		{"passwords, refused", ssh.ServerConfig{PublicKeyCallback: key, PasswordCallback: refuse}, "", "", "none publickey password password"},
		{"had enough", ssh.ServerConfig{PublicKeyCallback: key, PasswordCallback: refuse, MaxAuthTries: 2}, "", "", "none publickey password"},
		{"nothing asked", ssh.ServerConfig{NoClientAuth: true}, "none", "", "none"},
		{"any key", ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}, "publickey", "", "none publickey"},
		{"empty password", ssh.ServerConfig{PublicKeyCallback: key, PasswordCallback: empty}, "password", "", "none publickey password"},
		{"any password", ssh.ServerConfig{PasswordCallback: func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if len(p) > 0 {
				return nil, nil
			}
			return nil, no
		}}, "password", "wrong", "none publickey password password"},
		{"questions", ssh.ServerConfig{KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			a, err := ask("", "", []string{"Password: "}, []bool{false})
			if err == nil && len(a) == 1 && a[0] == "" {
				return nil, nil
			}
			return nil, no
		}}, "keyboard-interactive", "", "none publickey password password keyboard-interactive"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k, err := NewKey()
			if err != nil {
				t.Fatal(err)
			}
			in, err := server(t, &tt.conf).Strangers(t.Context(), "root", k, "", "wrong")
			if err != nil || in.How != tt.how || in.Password != tt.password || strings.Join(in.Asked, " ") != tt.asked {
				t.Errorf("%+v %v", in, err)
			}
		})
	}
}
