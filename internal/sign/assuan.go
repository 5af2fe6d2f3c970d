package sign

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"slipway/internal/errs"
)

// assuan is a connection to a gpg-agent: lines, as in the manual of libassuan
// ("Client requests", "Server responses") and of GnuPG ("Agent's Assuan Protocol").
type assuan struct {
	c          net.Conn
	r          *bufio.Reader
	passphrase func() ([]byte, error)
}

func dialAgent(ctx context.Context, socket string, passphrase func() ([]byte, error)) (*assuan, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "reach the gpg-agent", err, errs.Hint("gpg-connect-agent /bye starts it"))
	}
	a := &assuan{c, bufio.NewReader(c), passphrase}
	commands := []string{""} // the greeting
	if passphrase != nil {
		commands = append(commands, "OPTION pinentry-mode=loopback")
	}
	for name, variable := range map[string]string{"ttyname": "GPG_TTY", "ttytype": "TERM", "display": "DISPLAY"} {
		if v := os.Getenv(variable); v != "" && !strings.ContainsAny(v, "\n%") {
			commands = append(commands, "OPTION "+name+"="+v)
		}
	}
	for _, cmd := range commands {
		if _, err := a.do(cmd); err != nil {
			c.Close()
			return nil, err
		}
	}
	return a, nil
}

func (a *assuan) sign(keygrip string, digest []byte) ([]byte, error) {
	if _, err := a.do("SIGKEY " + keygrip); err != nil {
		return nil, err
	}
	if _, err := a.do("SETHASH --hash=sha256 " + hex.EncodeToString(digest)); err != nil {
		return nil, err
	}
	return a.do("PKSIGN")
}

// do sends a command ("" sends nothing) and gives the data of the answer.
func (a *assuan) do(command string) ([]byte, error) {
	if command != "" {
		if _, err := fmt.Fprintf(a.c, "%s\n", command); err != nil {
			return nil, errs.E(errs.Unavailable, "the gpg-agent is gone", err)
		}
	}
	var data []byte
	for {
		line, err := a.r.ReadSlice('\n') // the protocol's lines have 1000 bytes at most
		if err != nil {
			return nil, errs.E(errs.Unavailable, "the gpg-agent is gone", err)
		}
		word, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		switch string(word) {
		case "OK":
			return data, nil
		case "ERR":
			return nil, agentError(string(rest))
		case "D":
			if data = append(data, unescape(rest)...); len(data) > maxKeyFile {
				return nil, errs.E(errs.Invalid, "the gpg-agent's answer is too long")
			}
		case "INQUIRE":
			if err := a.answer(string(rest)); err != nil {
				return nil, err
			}
		case "S", "#", "":
		default:
			return nil, errs.Ef(errs.Invalid, "the gpg-agent says %q", word)
		}
	}
}

func (a *assuan) answer(what string) error {
	if a.passphrase == nil || !strings.HasPrefix(what, "PASSPHRASE") {
		_, err := fmt.Fprint(a.c, "END\n")
		return err
	}
	secret, err := a.passphrase()
	if err != nil {
		return err
	}
	secret = []byte(strings.NewReplacer("%", "%25", "\n", "%0A", "\r", "%0D").Replace(string(secret)))
	_, err = fmt.Fprintf(a.c, "D %s\nEND\n", secret)
	return err
}

// agentError translates "<code> <text>"; the low 16 bits of the code are libgpg-error's.
func agentError(s string) error {
	number, text, _ := strings.Cut(s, " ")
	code, _ := strconv.ParseUint(number, 10, 32)
	switch code & 0xffff {
	case 11: // GPG_ERR_BAD_PASSPHRASE
		return errs.E(errs.Denied, "gpg-agent: wrong passphrase")
	case 17: // GPG_ERR_NO_SECKEY
		return errs.E(errs.NotFound, "gpg-agent: it does not have the private part", errs.Hint("insert the token, or import the key"))
	case 99: // GPG_ERR_CANCELED
		return errs.E(errs.Denied, "gpg-agent: the passphrase was not given", errs.Hint("for use without a terminal: SLIPWAY_PASSPHRASE, --passphrase-file, or gpg-preset-passphrase"))
	}
	return errs.E(errs.Failed, "gpg-agent: "+text)
}

// unescape undoes the percent signs of a line of data.
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '%' && i+2 < len(b) {
			if v, err := strconv.ParseUint(string(b[i+1:i+3]), 16, 8); err == nil {
				out, i = append(out, byte(v)), i+2
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

// parseSigVal reads the S-expression of a signature, "(7:sig-val(3:rsa(1:s384:...)))" or
// "(7:sig-val(5:eddsa(1:r32:...)(1:s32:...)))", and gives its integers.
func parseSigVal(b []byte) ([][]byte, error) {
	atoms, ok := sexpAtoms(b)
	value := func(name string) []byte {
		for i := 2; i+1 < len(atoms); i += 2 {
			if string(atoms[i]) == name {
				return atoms[i+1]
			}
		}
		return nil
	}
	if ok && len(atoms) > 2 && string(atoms[0]) == "sig-val" {
		switch r, s := value("r"), value("s"); {
		case string(atoms[1]) == "rsa" && s != nil:
			return [][]byte{s}, nil
		case string(atoms[1]) == "eddsa" && r != nil && s != nil:
			return [][]byte{r, s}, nil
		}
	}
	return nil, errs.E(errs.Invalid, "the gpg-agent gives no signature by RSA or EdDSA")
}

// sexpAtoms gives the atoms of a canonical S-expression, without its parentheses.
func sexpAtoms(b []byte) (atoms [][]byte, ok bool) {
	depth := 0
	for len(b) > 0 {
		switch c := b[0]; {
		case c == '(':
			depth, b = depth+1, b[1:]
		case c == ')':
			depth, b = depth-1, b[1:]
			if depth < 0 {
				return nil, false
			}
			if depth == 0 {
				return atoms, len(bytes.Trim(b, "\x00")) == 0
			}
		default:
			digits, rest, found := bytes.Cut(b, []byte(":"))
			n, err := strconv.ParseUint(string(digits), 10, 16)
			if !found || err != nil || int(n) > len(rest) || depth == 0 {
				return nil, false
			}
			atoms, b = append(atoms, rest[:n]), rest[n:]
		}
	}
	return nil, false
}
