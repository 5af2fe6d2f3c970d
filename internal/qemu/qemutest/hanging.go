package qemutest

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Hanging is an ssh server on the loopback that lets every key in, takes every command, and
// answers none: a device that hangs. It gives HOST:PORT.
func Hanging(t testing.TB) string {
	t.Helper()
	conf := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	return Serve(t, conf, func(ch ssh.NewChannel) {
		if _, in, err := ch.Accept(); err == nil {
			go func() {
				for r := range in {
					_ = r.Reply(true, nil)
				}
			}()
		}
	})
}

// Serve is an ssh server on the loopback that takes logins as conf says, with a host key of
// its own, and gives each channel that a client opens to open. It gives HOST:PORT.
func Serve(t testing.TB, conf *ssh.ServerConfig, open func(ssh.NewChannel)) string {
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
				_, channels, requests, err := ssh.NewServerConn(c, conf)
				if err != nil {
					_ = c.Close()
					return
				}
				go ssh.DiscardRequests(requests)
				for ch := range channels {
					open(ch)
				}
			}()
		}
	}()
	return l.Addr().String()
}
