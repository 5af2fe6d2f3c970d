package device

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/feed"
	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/signer"
)

// rotation is a metadata key that is followed by another: the world's key first.
type rotation struct {
	folder keyring.Folder
	next   *sign.Key
	until  time.Time
}

func (b *bed) rotation() rotation {
	b.t.Helper()
	r := rotation{folder: keyring.Folder{Dir: filepath.Join(b.t.TempDir(), "keys")}, until: start.AddDate(0, 0, 30)}
	ring := keyring.New("halyard")
	first, err := ring.Add(keyring.Metadata, b.w.key.Public(), start)
	if err != nil {
		b.t.Fatal(err)
	}
	if r.next, err = sign.Generate(sign.Options{Name: "Halyard, next", Created: start}); err != nil {
		b.t.Fatal(err)
	}
	second, err := ring.Rotate(keyring.Metadata, r.next.Public(), 30*24*time.Hour, start)
	if err != nil {
		b.t.Fatal(err)
	}
	for k, private := range map[string]*sign.Key{r.folder.PrivatePath(first): b.w.key, r.folder.PrivatePath(second): r.next} {
		if err := private.Save(k); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := r.folder.Save(ring); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// signed lets the keys that are in force at a time sign every index of the publication.
func (r rotation) signed(b *bed, at time.Time) {
	b.t.Helper()
	l := &signer.Local{Folder: r.folder, Distribution: "halyard", Clock: func() time.Time { return at }}
	defer l.Close()
	md, err := l.Role(b.t.Context(), keyring.Metadata, at)
	if err != nil {
		b.t.Fatal(err)
	}
	both("repomd.xml", func(t *testing.T, b *bed, path string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := md.Sign(t.Context(), bytes.NewReader(data), at)
		if err == nil {
			err = os.WriteFile(path+".asc", sign.Armor(sig), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	})(b.t, b)
}

func (b *bed) keyFile(keys ...*sign.Key) {
	var text string
	for _, k := range keys {
		text += string(k.PublicArmored())
	}
	b.file("root", "etc/pki/rpm-gpg/"+feed.KeyName("halyard", "metadata"), text)
}

// TestZypperFollowsARotation: in the overlap an index bears two signatures, and zypper,
// which looks at the last one alone, takes it with the old key. After it slipway-device
// brings rpm the new key from the file that an update has brought; zypper by itself asks
// a person, and refuses when nobody answers.
func TestZypperFollowsARotation(t *testing.T) {
	t.Parallel()
	zypperBed := func() *bed {
		b := newBed(t)
		b.file("root", "etc/slipway-device.conf", "frontend = zypper\n")
		return b
	}
	b := zypperBed()
	r := b.rotation()
	r.signed(b, now)
	b.must("update")
	b.consistent(2)

	b = zypperBed()
	r.signed(b, r.until)
	if code, out := b.device("update"); code != 43 || !strings.Contains(out, "Signature verification failed for repomd.xml") {
		t.Errorf("a device that slept through the overlap: exit code %d\n%s", code, out)
	}
	b.keyFile(b.w.key, r.next)
	d := b.open()
	d.conf.Frontend = "zypper"
	if err := d.writeFeeds(2); err != nil {
		t.Fatal(err)
	}
	if out, err := d.run(t.Context(), false, zypper{d}.args("refresh", "--force")...); err == nil || !strings.Contains(out, "Do you want to reject the key, or trust always?") {
		t.Errorf("zypper by itself, with the key in its file: %v\n%s", err, out)
	}
	b.must("update")
	b.consistent(2)
	if out, err := d.run(t.Context(), false, zypper{d}.args("refresh", "--force")...); err != nil {
		t.Errorf("zypper by itself, when rpm has the key: %v\n%s", err, out)
	}
}
