package qemu_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"slipway/internal/qemu"
	"slipway/internal/qemu/qemutest"
)

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
			k, err := qemu.NewKey()
			if err != nil {
				t.Fatal(err)
			}
			address := qemutest.Serve(t, &tt.conf, func(ch ssh.NewChannel) { _ = ch.Reject(ssh.Prohibited, "a test") })
			in, err := qemu.AtAddress(address).Strangers(t.Context(), "root", k, "", "wrong")
			if err != nil || in.How != tt.how || in.Password != tt.password || strings.Join(in.Asked, " ") != tt.asked {
				t.Errorf("%+v %v", in, err)
			}
		})
	}
}
