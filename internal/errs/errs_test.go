package errs

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestKindsAndExitCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		kind Kind
		code int
	}{
		{E(Invalid, "x"), Invalid, 2},
		{fmt.Errorf("outer: %w", E(NotFound, "x")), NotFound, 5},
		{E(Refused, "gate", E(NotFound, "inner")), Refused, 7},
		{errors.New("what"), Internal, 1},
		{fmt.Errorf("stopped: %w", context.Canceled), Interrupted, 130},
		{List{E(Invalid, "a"), E(Denied, "b")}, Invalid, 2},
		{Wrap(E(Pending, "x"), "doing %s", "y"), Pending, 8},
	} {
		if got := KindOf(tt.err); got != tt.kind {
			t.Errorf("KindOf(%v) = %s, want %s", tt.err, got, tt.kind)
		}
		if got := ExitCode(tt.err); got != tt.code {
			t.Errorf("ExitCode(%v) = %d, want %d", tt.err, got, tt.code)
		}
	}
	if ExitCode(nil) != 0 || Wrap(nil, "x") != nil || List(nil).Err() != nil {
		t.Error("nil is not an error")
	}
}

func TestHintsOnceEachOutermostFirst(t *testing.T) {
	err := Wrap(E(Failed, "a", Hint("one"), List{E(Failed, "b", Hint("two")), E(Failed, "c", Hint("one"))}), "doing")
	if got := fmt.Sprint(Hints(err)); got != "[one two]" {
		t.Errorf("hints %s", got)
	}
}

func TestPositionIsPrinted(t *testing.T) {
	err := E(Invalid, "unknown key", At{File: "slipway.yaml", Line: 3, Col: 7}, errors.New("why"))
	if got := err.Error(); got != "slipway.yaml:3:7: unknown key: why" {
		t.Error(got)
	}
}

func TestNear(t *testing.T) {
	keys := []string{"series", "builder", "boards", "targets"}
	for in, want := range map[string]string{"seris": "series", "board": "boards", "sereis": "series", "xyzzy": "", "bulder": "builder"} {
		if got := Near(in, keys); got != want {
			t.Errorf("Near(%q) = %q, want %q", in, got, want)
		}
	}
}
