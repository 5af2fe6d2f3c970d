package signer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

// Many messages at once get the signatures that each gets alone, and stand in the log
// by name and in order, however many lines of the protocol that takes.
func TestSignAll(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c := serve(t, &Server{Local: local(f.Dir)})
	s := role(t, c, keyring.Package)
	var messages [][]byte
	var names []string
	for i := range 2*maxMessages + 5 {
		messages = append(messages, []byte(fmt.Sprint("message ", i)))
		names = append(names, fmt.Sprintf("pool/%d-%s.rpm", i, strings.Repeat("<", i%900)))
	}
	got, err := sign.All(t.Context(), s, messages, names, now)
	if err != nil || len(got) != len(messages) {
		t.Fatalf("%d signatures, %v", len(got), err)
	}
	log, err := os.ReadFile(filepath.Join(f.Dir, "signed.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	if len(lines) != len(messages) {
		t.Fatalf("%d lines in the log", len(lines))
	}
	for i := range messages {
		if !strings.Contains(lines[i], fmt.Sprintf(`"what":"pool/%d-`, i)) {
			t.Errorf("line %d of the log is %s", i, lines[i])
		}
		if i%20 == 0 {
			alone, err := s.Sign(t.Context(), bytes.NewReader(messages[i]), now)
			if err != nil || !bytes.Equal(alone, got[i]) {
				t.Errorf("message %d: other bytes alone, %v", i, err)
			}
		}
	}
	for _, n := range []int{0, maxMessages + 1} {
		if _, err := c.do(t.Context(), request{Op: "sign-all", Role: keyring.Package, At: now, All: make([]message, n)}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%d messages: %v", n, err)
		}
	}
	// One that is no midstate: nothing is signed, and nothing logged.
	good, err := sign.Hash(t.Context(), bytes.NewReader(messages[0]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignAll(t.Context(), []sign.Midstate{good, good[1:]}, []string{"good", "bad"}, now); !errs.Is(err, errs.Invalid) {
		t.Errorf("a bad midstate: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(f.Dir, "signed.log")); err != nil || bytes.Contains(after, []byte(`"good"`)) {
		t.Errorf("the log has what was not signed, %v", err)
	}
}
