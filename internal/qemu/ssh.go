package qemu

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway/internal/errs"
)

// Key is an ssh key pair.
type Key struct {
	signer ssh.Signer
	pem    []byte
}

// NewKey makes a key pair (Ed25519).
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "slipway")
	if err != nil {
		return nil, err
	}
	return ParseKey(pem.EncodeToMemory(block))
}

// ParseKey reads a private key without a passphrase, as ssh-keygen writes it.
func ParseKey(text []byte) (*Key, error) {
	s, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, errs.E(errs.Invalid, "private ssh key", err)
	}
	return &Key{signer: s, pem: text}, nil
}

// Authorized is the public half, a line of authorized_keys with its newline.
func (k *Key) Authorized() []byte { return ssh.MarshalAuthorizedKey(k.signer.PublicKey()) }

// Private is the key as a file that ssh -i reads; it wants mode 0600.
func (k *Key) Private() []byte { return k.pem }

// ParseAuthorized checks that text is one public key or several, as in
// authorized_keys or a .pub file, and gives it back with newlines.
func ParseAuthorized(text []byte) ([]byte, error) {
	var out []byte
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		key, _, _, next, err := ssh.ParseAuthorizedKey(rest)
		if err != nil {
			return nil, errs.E(errs.Invalid, "public ssh key", err)
		}
		out, rest = append(out, ssh.MarshalAuthorizedKey(key)...), next
	}
	if len(out) == 0 {
		return nil, errs.E(errs.Invalid, "no public ssh key in it")
	}
	return out, nil
}

// Login is how to be let in.
type Login struct {
	User     string // default root
	Key      *Key
	Password string // when there is no key
}

// SSH is a connection to a guest.
type SSH struct {
	client  *ssh.Client
	hostKey ssh.PublicKey
}

// hostKeyKinds are asked for in this order.
var hostKeyKinds = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoRSASHA256}

// sshPatience is how long a server that does not answer yet is tried again.
const sshPatience = 30 * time.Second

var errNoAnswer = errors.New("no answer")

// SSH logs in. A server that does not answer yet is tried again for 30 s; one
// that does not let us in is errs.Denied at once. The host key is whatever the
// guest shows: the connection is a port of this machine's loopback, and what the
// key is, is a question of the caller ([SSH.HostKey]).
func (g *Guest) SSH(ctx context.Context, l Login) (*SSH, error) {
	s := &SSH{}
	var auth []ssh.AuthMethod
	if l.Key != nil {
		auth = append(auth, ssh.PublicKeys(l.Key.signer))
	}
	if l.Password != "" {
		auth = append(auth, ssh.Password(l.Password))
	}
	err := g.dial(ctx, func(ctx context.Context, addr string) (err error) {
		s.client, err = handshake(ctx, addr, &ssh.ClientConfig{User: orText(l.User, "root"), Auth: auth, HostKeyAlgorithms: hostKeyKinds,
			HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error { s.hostKey = key; return nil }})
		return err
	})
	if err != nil {
		return nil, errs.Wrap(err, "log in to %s", g.opt.Name)
	}
	g.mu.Lock()
	g.login, g.shell = &l, s
	g.now.hostKeys[s.hostKey.Type()] = s.HostKey()
	g.mu.Unlock()
	return s, nil
}

// dial tries to connect, again and again while nobody answers: QEMU takes the
// connection in any case, and closes it when the guest does not listen.
func (g *Guest) dial(ctx context.Context, try func(ctx context.Context, addr string) error) error {
	ctx, cancel := g.Patience(ctx, sshPatience, errNoAnswer)
	defer cancel()
	for {
		addr, err := g.address(ctx)
		if err != nil {
			return err
		}
		err = try(ctx, addr)
		switch {
		case err == nil:
			return nil
		case strings.Contains(err.Error(), "unable to authenticate"), strings.Contains(err.Error(), "oo many authentication failures"):
			return errs.E(errs.Denied, "the guest does not let us in", err, g.logHint())
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-g.gone:
			return errs.E(errs.Failed, "the guest is off", g.logHint())
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errNoAnswer) {
				return errs.E(errs.Failed, "its ssh server does not answer", err, g.logHint())
			}
			return context.Cause(ctx)
		}
	}
}

func handshake(ctx context.Context, addr string, conf *ssh.ClientConfig) (*ssh.Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, addr, conf)
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

var errSeen = errors.New("host key seen")

// HostKeys gives the fingerprint (SHA256:...) of each kind of host key that the
// guest has, by kind, such as "ssh-ed25519". It does not log in, and asks for no
// key again that a login of this power-on was shown: a handshake is dear when
// emulated.
func (g *Guest) HostKeys(ctx context.Context) (map[string]string, error) {
	g.mu.Lock()
	keys := maps.Clone(g.now.hostKeys)
	g.mu.Unlock()
	var offered []string
	err := g.dial(ctx, func(ctx context.Context, addr string) (err error) {
		offered, err = offers(ctx, addr)
		return err
	})
	for _, kind := range hostKeyKinds {
		if err != nil || !slices.Contains(offered, kind) || keys[keyOf(kind)] != "" {
			continue
		}
		have, tries := len(keys), 0
		err = g.dial(ctx, func(ctx context.Context, addr string) error {
			// The callback comes after the server has proved that the key is its own. What
			// error the handshake then ends with is a race.
			_, err := handshake(ctx, addr, &ssh.ClientConfig{User: "root", HostKeyAlgorithms: []string{kind},
				HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
					keys[key.Type()] = ssh.FingerprintSHA256(key)
					return errSeen
				}})
			// Dropbear offers RSA without having such a key, and then drops the connection.
			if tries++; len(keys) > have || tries == 3 {
				return nil
			}
			return err
		})
	}
	if err != nil {
		return nil, errs.Wrap(err, "ask %s for its host keys", g.opt.Name)
	}
	return keys, nil
}

// keyOf names the kind of key that an algorithm of host keys uses: RSA has several.
func keyOf(algorithm string) string {
	if algorithm == ssh.KeyAlgoRSASHA256 {
		return ssh.KeyAlgoRSA
	}
	return algorithm
}

// offers reads which host key algorithms a server names in its first packet
// (RFC 4253, sections 4.2, 6 and 7.1): asking for one that it does not have only
// ends the connection.
func offers(ctx context.Context, addr string) ([]string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := io.WriteString(conn, "SSH-2.0-slipway\r\n"); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(io.LimitReader(conn, 64<<10), 64<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(line, "SSH-") {
			break
		}
	}
	return readOffers(r)
}

func readOffers(r io.Reader) ([]string, error) {
	head := make([]byte, 5) // length of the packet, of its padding
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	packet := make([]byte, min(binary.BigEndian.Uint32(head)-1, 64<<10))
	if _, err := io.ReadFull(r, packet); err != nil {
		return nil, err
	}
	const cookie = 1 + 16 // after the kind of message
	rest := packet[min(cookie, len(packet)):]
	var list []byte
	for range 2 { // key exchange, then host keys
		if len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.BigEndian.Uint32(rest)) {
			return nil, errors.New("its first packet is damaged")
		}
		n := binary.BigEndian.Uint32(rest)
		list, rest = rest[4:4+n], rest[4+n:]
	}
	return strings.Split(string(list), ","), nil
}

// HostKey is the fingerprint of the key that the guest showed: SHA256:...
func (s *SSH) HostKey() string { return ssh.FingerprintSHA256(s.hostKey) }

// Close ends the connection.
func (s *SSH) Close() { _ = s.client.Close() }

// alive reports that the connection still stands; one that does not answer until
// ctx ends is closed.
func (s *SSH) alive(ctx context.Context) bool {
	defer context.AfterFunc(ctx, s.Close)()
	_, _, err := s.client.SendRequest("keepalive@openssh.com", true, nil)
	return err == nil
}

// Output is what a command in a guest did.
type Output struct {
	Stdout, Stderr string
	Exit           int
}

// Run runs a line of shell in the guest. An exit code other than 0 is
// errs.Failed, with the output all the same; a connection that breaks (the guest
// reboots) is errs.Unavailable. When ctx ends, so does the connection.
func (s *SSH) Run(ctx context.Context, command string) (Output, error) {
	return s.run(ctx, command, nil)
}

// Upload writes a file in the guest; the folder must be there.
func (s *SSH) Upload(ctx context.Context, path string, mode uint32, data []byte) error {
	quoted := "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	_, err := s.run(ctx, fmt.Sprintf("cat > %s && chmod %o %s", quoted, mode, quoted), data)
	return errs.Wrap(err, "upload %s", path)
}

func (s *SSH) run(ctx context.Context, command string, stdin []byte) (Output, error) {
	var out Output
	session, err := s.client.NewSession()
	if err != nil {
		return out, errs.E(errs.Unavailable, "the connection to the guest is lost", err)
	}
	defer func() { _ = session.Close() }()
	// Only a closed connection ends the wait for a command that does not want to end.
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	var stdout, stderr bytes.Buffer
	session.Stdout, session.Stderr = &stdout, &stderr
	if stdin != nil {
		session.Stdin = bytes.NewReader(stdin)
	}
	err = session.Run(command)
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	out.Stdout, out.Stderr = stdout.String(), stderr.String()
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return out, nil
	case errors.As(err, &exit):
		out.Exit = exit.ExitStatus()
		said := lastLines(orText(strings.TrimSpace(out.Stderr), out.Stdout), 5)
		return out, errs.E(errs.Failed, fmt.Sprintf("%s: exit %d: %s", command, out.Exit, said))
	}
	return out, errs.E(errs.Unavailable, command+": the connection to the guest broke", err)
}

func lastLines(text string, n int) string {
	var lines []string
	for l := range strings.Lines(text) {
		if l = clean([]byte(strings.TrimRight(l, "\n"))); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
