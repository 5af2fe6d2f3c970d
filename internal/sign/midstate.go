package sign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Midstate is SHA-256 after all bytes of a message, before the end of the hash:
// what is needed to sign the message without having it. OpenPGP hashes the message
// and then a trailer (what kind of signature, by whom, when); whoever holds the
// midstate can add any trailer, whoever holds a finished digest none.
//
// It is [MidstateSize] bytes, as Go's crypto/sha256 marshals itself: "sha\x03", the
// eight chaining words, the 64 bytes of the block that is not full (the rest of it
// zero), and the number of bytes so far; numbers are big-endian.
type Midstate []byte

// MidstateSize is the length of a Midstate in bytes.
const MidstateSize = 4 + 32 + 64 + 8

// Hash reads a message to its end. An error of message comes back as it is; a
// cancelled ctx is Interrupted.
func Hash(ctx context.Context, message io.Reader) (Midstate, error) {
	h := sha256.New()
	if b, ok := message.(*bytes.Reader); ok { // in memory, as a rule: no buffer for it
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := b.WriteTo(h); err != nil {
			return nil, err
		}
	} else if _, err := io.Copy(h, reader{ctx, message}); err != nil {
		return nil, err
	}
	return h.(encoding.BinaryMarshaler).MarshalBinary()
}

// Digest is the sha256 of the message.
func (m Midstate) Digest() (distro.Digest, error) {
	h, err := m.resume()
	if err != nil {
		return "", err
	}
	return distro.DigestFromSum(h.Sum(nil)), nil
}

func (m Midstate) resume() (hash.Hash, error) {
	h := sha256.New()
	if len(m) != MidstateSize {
		return nil, errs.Ef(errs.Invalid, "a midstate of SHA-256 is %d bytes, this is %d", MidstateSize, len(m))
	}
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(m); err != nil {
		return nil, errs.E(errs.Invalid, "no midstate of SHA-256", err)
	}
	return h, nil
}

// holder has the private part of a key: it signs digests. The result are the
// integers of the signature, in the order of the packet (RSA: one; EdDSA: R and S),
// big-endian.
type holder func(ctx context.Context, digest []byte) ([][]byte, error)

// signMidstate makes the one form of signature that this package gives: version 4,
// binary, SHA-256, with creation time, issuer key id and issuer fingerprint, all
// hashed (RFC 9580, sections 5.2.3 and 5.2.4).
func signMidstate(ctx context.Context, key *packet.PublicKey, private holder, m Midstate, at time.Time) ([]byte, error) {
	if at.Before(key.CreationTime.Truncate(time.Second)) {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("key %016x was made at %s, after the time to sign for, %s",
			key.KeyId, key.CreationTime.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339)),
			errs.Hint("check the clock, or SOURCE_DATE_EPOCH; a key must be older than what it signs"))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	const critical = 0x80
	var sub []byte
	sub = append(sub, 5, critical|2) // creation time
	sub = binary.BigEndian.AppendUint32(sub, uint32(at.Unix()))
	sub = append(sub, 9, 16) // issuer key id; like the next, rpm refuses it when it is critical
	sub = binary.BigEndian.AppendUint64(sub, key.KeyId)
	sub = append(sub, 22, 33, 4) // issuer fingerprint, of a version 4 key
	sub = append(sub, key.Fingerprint...)

	body := []byte{4, byte(packet.SigTypeBinary), byte(key.PubKeyAlgo), 8, 0, byte(len(sub))} // 8: SHA-256
	body = append(body, sub...)
	trailer := binary.BigEndian.AppendUint32([]byte{4, 0xff}, uint32(len(body)))

	h, err := m.resume()
	if err != nil {
		return nil, err
	}
	h.Write(body)
	h.Write(trailer)
	digest := h.Sum(nil)
	integers, err := private(ctx, digest)
	if err != nil {
		return nil, errs.Wrap(err, "sign with key %016x", key.KeyId)
	}
	body = append(body, 0, 0) // no unhashed subpackets
	body = append(body, digest[:2]...)
	for _, i := range integers {
		body = appendInteger(body, i)
	}
	return append(packetHeader(len(body)), body...), nil
}

// packetHeader is that of a signature packet (tag 2), new format.
func packetHeader(n int) []byte {
	if n < 192 {
		return []byte{0xc2, byte(n)}
	}
	return []byte{0xc2, byte((n-192)>>8) + 192, byte(n - 192)} // an RSA key of 16384 bits still fits
}

// appendInteger appends a multiprecision integer: its bits, its bytes without
// leading zeros.
func appendInteger(b, i []byte) []byte {
	i = bytes.TrimLeft(i, "\x00")
	bits := 0
	if len(i) > 0 {
		bits = (len(i)-1)*8 + bitLen(i[0])
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(bits)), i...)
}

func bitLen(b byte) (n int) {
	for ; b > 0; b >>= 1 {
		n++
	}
	return n
}
