// Package signer is the process that holds a distribution's private keys, and the
// client with which everything else gets signatures.
//
// The [Server] listens on a Unix socket (mode 0600; the kernel says who connects,
// SO_PEERCRED). A client names a role, a date and the SHA-256 midstate of what is to be
// signed ([sign.Midstate]); the server chooses the keys by the keyring, adds the OpenPGP
// trailer itself, notes in signed.log what it signs, and gives the signatures. It never
// gives a key, and never finishes a hash that somebody else began in any other way than as
// a binary document, so that no client can have a key, a user id or a revocation
// signed. docs/format/signer.md has the protocol.
//
//	c, err := signer.Start(ctx, program, args, stderr) // a child of this process
//	s, err := c.Role(ctx, keyring.Metadata, now)
//	sig, err := s.Sign(ctx, bytes.NewReader(repomd), at) // of every key that signs then
//
// A [Remote] is a [sign.MidstateSigner]: who has one does not see where the keys are.
// [Local] gives the same without another process, for tests and demos.
package signer

import (
	"encoding/json"
	"errors"
	"time"

	"slipway/internal/errs"
	"slipway/internal/keyring"
)

// maxLine is the longest line of the protocol, in bytes.
const maxLine = 64 << 10

// request is one line from a client.
type request struct {
	Op       string       `json:"op"` // "keys", "sign", "sign-all" or "checkpoint"
	Role     keyring.Role `json:"role"`
	At       time.Time    `json:"at"`                 // the date of the signature
	Midstate []byte       `json:"midstate,omitempty"` // sign: base64 of the 108 bytes
	Text     []byte       `json:"text,omitempty"`     // checkpoint: base64 of what is signed
	What     string       `json:"what,omitempty"`     // for the log alone, what the client calls it
	All      []message    `json:"all,omitempty"`      // sign-all: in place of midstate and what
}

// message is one of those that "sign-all" signs.
type message struct {
	Midstate []byte `json:"midstate"`
	What     string `json:"what,omitempty"`
}

// A request of "sign-all" has at most so many messages, and so many bytes of names:
// it must fit into a line.
const (
	maxMessages = 128
	maxNames    = 24 << 10
)

// response is one line from the server.
type response struct {
	Keys       []keyring.Key `json:"keys,omitempty"`
	Signatures []signature   `json:"signatures,omitempty"`
	All        [][]signature `json:"all,omitempty"` // of sign-all: those of each message
	Error      *failure      `json:"error,omitempty"`
}

type signature struct {
	Key   string `json:"key"`       // fingerprint
	Bytes []byte `json:"signature"` // base64 of a binary OpenPGP signature, of a checkpoint the bare 64 bytes
}

type failure struct {
	Kind    errs.Kind `json:"kind"`
	Message string    `json:"message"`
	Hints   []string  `json:"hints,omitempty"`
}

func failed(err error) response {
	return response{Error: &failure{errs.KindOf(err), err.Error(), errs.Hints(err)}}
}

func (f *failure) err() error {
	opts := make([]any, len(f.Hints))
	for i, h := range f.Hints {
		opts[i] = errs.Hint(h)
	}
	return errs.E(f.Kind, f.Message, opts...)
}

// entry is one line of signed.log.
type entry struct {
	Time   time.Time    `json:"time"` // when it was signed
	At     time.Time    `json:"at"`   // the date in the signature
	Role   keyring.Role `json:"role"`
	Key    string       `json:"key"`    // fingerprint
	Digest string       `json:"digest"` // sha256 of the message: of a package, its header digest
	What   string       `json:"what,omitempty"`
	User   int          `json:"uid"` // who asked
	Pid    int          `json:"pid"`
}

func (e entry) line() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic("signer: a log entry: " + err.Error()) // no field of it can fail
	}
	return append(b, '\n')
}

// errTooLong is what bufio.Scanner calls a line that is too long.
var errTooLong = errors.New("a line is too long")
