package qemu

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"slipway/internal/errs"
)

// LetIn is how an ssh server took somebody without any right.
type LetIn struct {
	// How is "none", "publickey", "password" or "keyboard-interactive" when somebody was
	// let in, and "" when nobody was.
	How      string
	Password string   // that was taken
	Asked    []string // methods that were tried, in turn
	Offered  []string // methods that the server says it takes
}

var errAllTried = errors.New("everything was tried")

// Strangers tries to log in as user with nothing, with a key that nobody gave the
// device, and with each of the passwords, in one connection (RFC 4252). A password is
// tried even when the server says that it takes none; answers to its own questions
// (keyboard-interactive) only when it says that it has some. The error is one of the
// connection: to be refused is none.
func (g *Guest) Strangers(ctx context.Context, user string, key *Key, passwords ...string) (LetIn, error) {
	var in LetIn
	err := g.dial(ctx, func(ctx context.Context, addr string) error {
		in = LetIn{How: "none", Asked: []string{"none"}}
		refused := false
		type attempt struct {
			how, password string
			auth          ssh.AuthMethod
		}
		left := []attempt{{"publickey", "", ssh.PublicKeys(key.signer)}}
		for _, p := range passwords {
			left = append(left, attempt{"password", p, ssh.Password(p)})
		}
		for _, p := range passwords {
			left = append(left, attempt{"keyboard-interactive", p, ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
				return slices.Repeat([]string{p}, len(questions)), nil
			})})
		}
		client, err := handshake(ctx, addr, &ssh.ClientConfig{User: user, HostKeyAlgorithms: hostKeyKinds,
			AuthCallback: func(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
				if in.Offered == nil {
					in.Offered = c.AllowedMethods
				}
				for len(left) > 0 {
					next := left[0]
					left = left[1:]
					if next.how == "keyboard-interactive" && !slices.Contains(c.AllowedMethods, next.how) {
						continue
					}
					in.How, in.Password, in.Asked = next.how, next.password, append(in.Asked, next.how)
					return next.auth, nil
				}
				refused = true
				return nil, errAllTried
			},
			HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
				g.mu.Lock()
				g.now.hostKeys[key.Type()] = ssh.FingerprintSHA256(key)
				g.mu.Unlock()
				return nil
			}})
		if err == nil {
			_ = client.Close()
			return nil
		}
		// A server that has had enough ends the connection: that is a refusal as soon as
		// the passwords had their turn.
		if refused || strings.Contains(err.Error(), "oo many authentication failures") && slices.Contains(in.Asked, "password") {
			in.How, in.Password = "", ""
			return nil
		}
		return err
	})
	if err != nil {
		return LetIn{}, errs.Wrap(err, "knock at the ssh server of %s", g.opt.Name)
	}
	return in, nil
}
