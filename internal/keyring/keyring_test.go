package keyring

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/errs"
	"slipway/internal/sign"
)

var day0 = time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)

func day(n int) time.Time { return day0.AddDate(0, 0, n) }

// keys are made once; each test takes them by number.
var keys = sync.OnceValue(func() []*sign.Key {
	var out []*sign.Key
	for range 8 {
		k, err := sign.Generate(sign.Options{Name: "Test", Created: day0.Add(-time.Hour)})
		if err != nil {
			panic(err)
		}
		out = append(out, k)
	}
	return out
})

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func fresh(t testing.TB) *Keyring {
	t.Helper()
	k := New("halyard")
	for i, r := range Roles {
		must[Key](t)(k.Add(r, keys()[i].Public(), day(0)))
	}
	return k
}

func sig(t testing.TB, key int, at time.Time) []byte {
	t.Helper()
	return must[[]byte](t)(keys()[key].Sign(t.Context(), strings.NewReader("x"), at))
}

// signing gives the names of the keys that sign, or the error.
func signing(k *Keyring, role Role, at time.Time) string {
	l, err := k.Signing(role, at)
	if err != nil {
		return err.Error()
	}
	var s []string
	for _, x := range l {
		s = append(s, x.Name())
	}
	return strings.Join(s, " ")
}

func TestRotation(t *testing.T) {
	t.Parallel()
	k := fresh(t)
	must[Key](t)(k.Rotate(Package, keys()[4].Public(), 180*24*time.Hour, day(10)))
	must[Key](t)(k.Rotate(Metadata, keys()[5].Public(), 180*24*time.Hour, day(10)))
	for _, tt := range []struct {
		day  int
		role Role
		want string
	}{
		{9, Package, "package-1"}, {10, Package, "package-1"}, {189, Package, "package-1"}, {190, Package, "package-2"},
		{9, Metadata, "metadata-1"}, {10, Metadata, "metadata-1 metadata-2"}, {189, Metadata, "metadata-1 metadata-2"}, {190, Metadata, "metadata-2"},
		{300, SState, "sstate-1"},
	} {
		if got := signing(k, tt.role, day(tt.day)); got != tt.want {
			t.Errorf("day %d: %s", tt.day, got)
		}
	}
	if p, ok := k.Trusted(Package), bytes.Count(k.Armored(Package, Metadata), []byte("BEGIN PGP PUBLIC")); len(p) != 2 || ok != 4 {
		t.Error(p, ok)
	}
	if e, err := k.PackageEpoch(day(200)); e != 1 || err != nil {
		t.Error("a rotation is no new epoch", e, err)
	}
	if _, err := k.Rotate(Package, keys()[6].Public(), time.Hour, day(20)); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "a rotation of the role package goes on") {
		t.Error(err)
	}
	if _, err := k.Rotate(Package, keys()[6].Public(), time.Hour, day(200)); err != nil {
		t.Error(err)
	}
	// An old signature stays good after its key has ended; one that is dated later does not.
	if got, err := k.Verify(Metadata, strings.NewReader("x"), sig(t, 1, day(20))); err != nil || got.Name() != "metadata-1" {
		t.Error(got.Name(), err)
	}
	if _, err := k.Verify(Metadata, strings.NewReader("x"), sig(t, 1, day(191))); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "signed until 2027-05-11T03:04:05Z only") {
		t.Error(err)
	}
	if got, err := k.Verify(Metadata, strings.NewReader("x"), append(sig(t, 1, day(191)), sig(t, 5, day(191))...)); err != nil || got.Name() != "metadata-2" {
		t.Error(got.Name(), err)
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	k := fresh(t)
	must[Key](t)(k.Revoke("package-1", "the laptop was stolen", day(5)))
	if got := signing(k, Package, day(4)); !strings.Contains(got, "no package key may sign: key package-1 (") || !strings.Contains(got, "was revoked on 2026-11-07T03:04:05Z: the laptop was stolen") {
		t.Error(got)
	}
	if _, err := k.Verify(Package, strings.NewReader("x"), sig(t, 0, day(1))); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "was revoked") {
		t.Error("a revoked key's old date does not help", err)
	}
	n := must[Key](t)(k.Add(Package, keys()[4].Public(), day(5)))
	if e, err := k.PackageEpoch(day(6)); n.Number != 2 || e != 2 || err != nil {
		t.Error("a new epoch is due", n.Number, e, err)
	}
	if len(k.Trusted(Package)) != 1 || strings.Contains(string(k.Armored(Package)), k.Keys[0].PublicKey) {
		t.Error("a revoked key is still handed to devices")
	}
	for name, tt := range map[string]struct {
		key, why string
		kind     errs.Kind
	}{"twice": {"package-1", "again", errs.Conflict}, "no reason": {"package-2", " ", errs.Invalid}, "unknown": {"package-7", "x", errs.NotFound}} {
		if _, err := k.Revoke(tt.key, tt.why, day(6)); !errs.Is(err, tt.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// In the middle of a rotation the key to come takes over at once, in a new epoch.
	k = fresh(t)
	must[Key](t)(k.Rotate(Package, keys()[4].Public(), 100*24*time.Hour, day(1)))
	must[Key](t)(k.Revoke(keys()[0].Fingerprint(), "stolen", day(2)))
	if e, err := k.PackageEpoch(day(2)); signing(k, Package, day(2)) != "package-2" || e != 2 || err != nil {
		t.Error(signing(k, Package, day(2)), e, err)
	}
	// And when the key to come is lost, the old one goes on without end.
	k = fresh(t)
	must[Key](t)(k.Rotate(Package, keys()[4].Public(), 100*24*time.Hour, day(1)))
	must[Key](t)(k.Retire("package-2", "the token broke", day(2)))
	if got := signing(k, Package, day(1000)); got != "package-1" {
		t.Error(got)
	}
	must[Key](t)(k.Rotate(Package, keys()[6].Public(), time.Hour, day(3)))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	k := fresh(t)
	short := must[*sign.Key](t)(sign.Generate(sign.Options{Name: "Short", Created: day(0), Lifetime: 24 * time.Hour}))
	for name, tt := range map[string]struct {
		err  error
		kind errs.Kind
		want string
	}{
		"a second":   {second(k.Add(Package, keys()[4].Public(), day(1))), errs.Conflict, "the role package has the key package-1"},
		"two roles":  {second(k.Rotate(Package, keys()[1].Public(), 0, day(1))), errs.Conflict, "is in the keyring already, as metadata-1"},
		"wrong role": {second(k.Verify(Package, strings.NewReader("x"), sig(t, 1, day(1)))), errs.Denied, "made by the key metadata-1 (" + keys()[1].KeyID() + "), which is not for package"},
		"unknown":    {second(k.Verify(Package, strings.NewReader("x"), sig(t, 7, day(1)))), errs.Denied, "made by the unknown key " + keys()[7].KeyID()},
		"tampered":   {second(k.Verify(Package, strings.NewReader("y"), sig(t, 0, day(1)))), errs.Denied, "bad signature"},
		"too early":  {second(k.Verify(Package, strings.NewReader("x"), sig(t, 0, day0.Add(-time.Minute)))), errs.Denied, "signs from 2026-11-02T03:04:05Z only"},
		"no key":     {second(New("x").Signing(Log, day(1))), errs.NotFound, "the keyring has no log key"},
		"expired":    {second(New("x").Add(Log, short.Public(), day(2))), errs.Denied, "expired at"},
		"not a role": {second(ParseRole("metdata")), errs.Invalid, "there is no role \"metdata\""},
	} {
		if !errs.Is(tt.err, tt.kind) || !strings.Contains(tt.err.Error(), tt.want) || name != "tampered" && len(errs.Hints(tt.err)) == 0 {
			t.Errorf("%s: %v %v", name, tt.err, errs.Hints(tt.err))
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestParse(t *testing.T) {
	t.Parallel()
	k := fresh(t)
	if again, err := Parse(k.Bytes()); err != nil || !bytes.Equal(again.Bytes(), k.Bytes()) {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*Keyring)
		want   string
	}{
		"schema":   {func(k *Keyring) { k.Schema = 2 }, "schema 2, this program knows 1"},
		"whose":    {func(k *Keyring) { k.Distribution = "" }, "does not say whose"},
		"role":     {func(k *Keyring) { k.Keys[1].Role = "cook" }, "cook-1: no such role"},
		"state":    {func(k *Keyring) { k.Keys[1].State = "" }, "no state"},
		"epoch":    {func(k *Keyring) { k.Keys[0].Epoch = 0 }, "has an epoch"},
		"twice":    {func(k *Keyring) { k.Keys = append(k.Keys, k.Keys[0]) }, "two keys are package-1"},
		"same key": {func(k *Keyring) { k.Keys[0].Fingerprint = k.Keys[1].Fingerprint }, "are the same key"},
		"other":    {func(k *Keyring) { k.Keys[0].PublicKey = k.Keys[1].PublicKey }, "is not the one key"},
		"name":     {func(k *Keyring) { k.Keys[0].UserID = "Bank" }, "user id is not that"},
		"reason":   {func(k *Keyring) { k.Keys[0].State = Revoked }, "revoked without date and reason"},
		"backward": {func(k *Keyring) { k.Keys[0].Until = day(-1) }, "ends before it begins"},
		"always":   {func(k *Keyring) { k.Keys[0].From = time.Time{} }, "from when?"},
		"root":     {func(k *Keyring) { k.Roots = []Root{{Fingerprint: "x"}} }, "root x is not that"},
	} {
		c := k.Clone()
		tt.change(c)
		if _, err := Parse(c.Bytes()); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplaces(t *testing.T) {
	t.Parallel()
	old := fresh(t)
	old.Number = 3
	next := func(change func(*Keyring)) error {
		c := old.Clone()
		c.Number = 4
		change(c)
		return c.Replaces(old)
	}
	if err := next(func(*Keyring) {}); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"an old one is replayed": next(func(k *Keyring) { k.Number = 2 }),
		"two of number 3":        next(func(k *Keyring) { k.Number, k.At = 3, day(1) }),
		"forgets package-1":      next(func(k *Keyring) { k.Keys = k.Keys[1:] }),
		"it is of other":         next(func(k *Keyring) { k.Distribution = "other" }),
	} {
		if !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	was := old.Clone()
	must[Key](t)(was.Revoke("log-1", "x", day(1)))
	if err := next(func(*Keyring) {}); err != nil {
		t.Error(err)
	}
	c := old.Clone()
	c.Number = 4
	if err := c.Replaces(was); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "trusts log-1 again") {
		t.Error(err)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	f := Folder{filepath.Join(t.TempDir(), "keys")}
	if _, _, err := f.Load("halyard"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	for i, r := range Roles[:2] {
		if err := keys()[i].Save(f.PrivatePath(Key{Role: r, Number: 1})); err != nil {
			t.Fatal(err)
		}
		if err := f.WritePublic(Key{Role: r, Number: 1, PublicKey: string(keys()[i].PublicArmored())}); err != nil {
			t.Fatal(err)
		}
	}
	k, st, err := f.Load("halyard")
	if err != nil || st != (Status{}) || len(k.Keys) != 2 || k.Keys[1].Name() != "metadata-1" {
		t.Fatal(k, st, err)
	}
	root, root2 := keys()[6], keys()[7]
	k, err = f.Sign(t.Context(), "halyard", []sign.Signer{root}, day(1))
	if err != nil || k.Number != 1 {
		t.Fatal(err)
	}
	draft := must[*Keyring](t)(f.Draft("halyard"))
	must[Key](t)(draft.Rotate(Metadata, keys()[4].Public(), time.Hour, day(2)))
	if err := f.Save(draft); err != nil {
		t.Fatal(err)
	}
	k, st, err = f.Load("halyard")
	if err != nil || !st.Pending || !st.Signed || !st.Root || len(k.Keys) != 2 {
		t.Error("a draft is in force without the root", st, err)
	}
	must[Key](t)(draft.Revoke("metadata-1", "stolen", day(2)))
	if err := f.Save(draft); err != nil {
		t.Fatal(err)
	}
	if k, _, err = f.Load("halyard"); err != nil || k.Keys[1].State != Revoked {
		t.Error("a revocation does not wait for the root", err)
	}
	if _, err := f.Sign(t.Context(), "halyard", []sign.Signer{root2}, day(3)); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "none of these roots") {
		t.Error(err)
	}
	if k, err = f.Sign(t.Context(), "halyard", []sign.Signer{root, root2}, day(3)); err != nil || k.Number != 2 || len(k.Roots) != 2 {
		t.Fatal(err)
	}
	// The old root's stranger and the new root's: both can read it.
	files := must[map[string][]byte](t)(f.Files("halyard"))
	for _, r := range []*sign.Key{root, root2} {
		if got, err := Open(files["keyring.json"], files["keyring.json.asc"], []*sign.Public{r.Public()}); err != nil || got.Number != 2 {
			t.Error(err)
		}
	}
	if _, err := Open(files["keyring.json"], files["keyring.json.asc"], []*sign.Public{keys()[3].Public()}); !errs.Is(err, errs.Denied) {
		t.Error(err)
	}
	if _, err := Open(append(files["keyring.json"], ' '), files["keyring.json.asc"], []*sign.Public{root.Public()}); !errs.Is(err, errs.Denied) {
		t.Error(err)
	}
	if len(files) != 3+3 || files["metadata-2.asc"] == nil {
		t.Error(len(files))
	}
	if _, _, err := f.Load("other"); !errs.Is(err, errs.Denied) {
		t.Error(err)
	}
	// Halves.
	if f.Held(k.Keys[0]) != "file" || f.Held(k.Keys[2]) != "" {
		t.Error(f.Held(k.Keys[0]), f.Held(k.Keys[2]))
	}
	if _, err := f.Unlock(t.Context(), k.Keys[2], Passphrases{}); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "the private half of the metadata key metadata-2") || len(errs.Hints(err)) != 2 {
		t.Error(err)
	}
	if s, err := f.Unlock(t.Context(), k.Keys[0], Passphrases{}); err != nil || s.Fingerprint() != keys()[0].Fingerprint() {
		t.Error(err)
	}
	if err := os.Rename(f.PrivatePath(k.Keys[1]), f.PrivatePath(k.Keys[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Unlock(t.Context(), k.Keys[0], Passphrases{}); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "is another than the public one") {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(f.Dir, "keyring.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Load("halyard"); !errs.Is(err, errs.Denied) {
		t.Error(err)
	}
}

// TestCutSwitch: wherever Sign is cut, the folder can be read, and the command can be given again.
func TestCutSwitch(t *testing.T) {
	t.Parallel()
	f := Folder{filepath.Join(t.TempDir(), "keys")}
	k := fresh(t)
	if err := f.Save(k); err != nil {
		t.Fatal(err)
	}
	a, b := keys()[6], keys()[7]
	must[*Keyring](t)(f.Sign(t.Context(), "halyard", []sign.Signer{a}, day(1)))
	before := map[string][]byte{}
	names := []string{"keyring.json", "keyring.json.asc", "root.asc"}
	for _, n := range names {
		before[n] = must[[]byte](t)(f.file(n))
	}
	must[*Keyring](t)(f.Sign(t.Context(), "halyard", []sign.Signer{a, b}, day(2)))
	after := map[string][]byte{}
	for _, n := range names {
		after[n] = must[[]byte](t)(f.file(n))
	}
	join := func() []byte {
		x, y := must[[]byte](t)(sign.Dearmor(after["keyring.json.asc"])), must[[]byte](t)(sign.Dearmor(before["keyring.json.asc"]))
		return sign.Armor(append(x, y...))
	}()
	for i, cut := range []map[string][]byte{
		{"keyring.json": before["keyring.json"], "keyring.json.asc": join, "root.asc": before["root.asc"]},
		{"keyring.json": after["keyring.json"], "keyring.json.asc": join, "root.asc": before["root.asc"]},
		{"keyring.json": after["keyring.json"], "keyring.json.asc": after["keyring.json.asc"], "root.asc": before["root.asc"]},
	} {
		for n, data := range cut {
			if err := f.write(n, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := f.Load("halyard"); err != nil {
			t.Errorf("cut %d: %v", i, err)
		}
		if _, err := f.Sign(t.Context(), "halyard", []sign.Signer{a, b}, day(3)); err != nil {
			t.Errorf("cut %d, again: %v", i, err)
		}
	}
}

// FuzzParse: no input panics, every error is Invalid, and what is read can be written and read again.
func FuzzParse(f *testing.F) {
	f.Add(fresh(f).Bytes())
	f.Add([]byte(`{"schema":1,"distribution":"x","keys":[{"role":"package"}]}`))
	f.Add([]byte(`{"schema":1,"distribution":"x","number":-1,"roots":[{}],"keys":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := Parse(b)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("%v is no Invalid", err)
			}
			return
		}
		again, err := Parse(k.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), k.Bytes()) {
			t.Fatalf("again: %v", err)
		}
		for _, r := range Roles {
			_, _ = k.Signing(r, day0)
		}
	})
}
