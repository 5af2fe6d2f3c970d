package rpm

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"slipway/internal/distro"
)

var handPicked = []string{"0", "1", "01", "1.0", "1.00", "1.0.0", "10", "9", "2.0.1", "2.0.1a", "a", "A", "a1", "1a", "a.1", "1.a",
	"~", "1~", "1~~", "1~rc1", "1.0~rc1", "1.0~rc2", "1.0", "1.0^", "1.0^git1", "1.0^git1~pre", "1.0~rc1^git1", "^", "1^^", "1^~", "~^",
	"xyz10", "xyz.4", "xyz.4.01", "5.5p1", "5.5p10", "fc4", "fc.4", "20101121", "20101122", "1_0", "1+0", "..", ".1", "1.", "1..2",
	"00000000000000000000000000000000001", "99999999999999999999999999999999999", "1.é", "1.0.z", "rpm"}

// pairs are all hand-picked pairs and some random ones, the same every time. No
// empty ones and no "-": rpm.vercmp takes whole EVRs.
func pairs() [][2]string {
	var out [][2]string
	for _, a := range handPicked {
		for _, b := range handPicked {
			out = append(out, [2]string{a, b})
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		var b strings.Builder
		for range 1 + r.IntN(8) {
			b.WriteByte("0123456789019.._+~^abAB"[r.IntN(23)])
		}
		return b.String()
	}
	for range 500 {
		a, b := word(), word()
		if r.IntN(2) == 0 {
			b = a + word()
		}
		out = append(out, [2]string{a, b})
	}
	return out
}

// TestVersionOrderIsRPMs asks rpm once for the whole table.
func TestVersionOrderIsRPMs(t *testing.T) {
	t.Parallel()
	tool(t, "rpm", "rpm")
	var lua strings.Builder
	lua.WriteString("%{lua:local t = {")
	all := pairs()
	for _, p := range all {
		fmt.Fprintf(&lua, "'%s','%s',", p[0], p[1])
	}
	lua.WriteString("} for i = 1, #t, 2 do print(rpm.vercmp(t[i], t[i+1]) .. ' ') end}")
	got := strings.Fields(run(t, "rpm", "--eval", lua.String()))
	if len(got) != len(all) {
		t.Fatalf("rpm gave %d answers to %d questions", len(got), len(all))
	}
	for i, p := range all {
		if ours := fmt.Sprint(distro.RPMVerCmp(p[0], p[1])); ours != got[i] {
			t.Errorf("%q, %q: rpm says %s, we say %s", p[0], p[1], got[i], ours)
		}
	}
}

// FuzzVersionOrder checks the laws of an order: a version equals itself, the
// other way round is the opposite, and smaller than smaller is smaller.
func FuzzVersionOrder(f *testing.F) {
	for i := range handPicked[2:] {
		f.Add(handPicked[i], handPicked[i+1], handPicked[i+2])
	}
	cmp := distro.RPMVerCmp
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if cmp(a, a) != 0 || cmp(a, b) != -cmp(b, a) {
			t.Fatalf("%q %q: %d, %d", a, b, cmp(a, b), cmp(b, a))
		}
		if cmp(a, b) <= 0 && cmp(b, c) <= 0 && cmp(a, c) > 0 {
			t.Fatalf("%q <= %q <= %q, but not the first and the last", a, b, c)
		}
	})
}
