package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/rpmpack"

	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/keyring"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/signer"
	"slipway/internal/store"
)

const keyFile = "/etc/pki/rpm-gpg/RPM-GPG-KEY-halyard"

// keyBed is a distribution whose keys change, its publication, and its devices: real
// dnf with gpgcheck and repo_gpgcheck, gpgkey naming the one file that the package
// halyard-feeds brings.
type keyBed struct {
	t      *testing.T
	folder keyring.Folder
	dir    string // of the publication
	now    time.Time
	all    []distro.PackageRecord
	made   map[string]*sign.Key // private keys that wait for their place in the folder
}

func newKeyBed(t *testing.T) *keyBed {
	t.Helper()
	b := &keyBed{t: t, made: map[string]*sign.Key{}, folder: keyring.Folder{Dir: filepath.Join(t.TempDir(), "keys")}, dir: t.TempDir(), now: time.Now().UTC().Truncate(time.Second).AddDate(-2, 0, 0)}
	b.change(func(r *keyring.Keyring) (keyring.Key, error) { return r.Add(keyring.Package, b.key(), b.now) })
	b.change(func(r *keyring.Keyring) (keyring.Key, error) { return r.Add(keyring.Metadata, b.key(), b.now) })
	return b
}

func (b *keyBed) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err, errs.Hints(err))
	}
}

func (b *keyBed) key() *sign.Public {
	b.t.Helper()
	k, err := sign.Generate(sign.Options{Name: "Halyard", Created: b.now})
	b.check(err)
	b.made[k.Fingerprint()] = k
	return k.Public()
}

func (b *keyBed) change(do func(*keyring.Keyring) (keyring.Key, error)) keyring.Key {
	b.t.Helper()
	r := b.ring()
	k, err := do(r)
	b.check(err)
	if m := b.made[k.Fingerprint]; m != nil && b.folder.Held(k) == "" {
		b.check(m.Save(b.folder.PrivatePath(k)))
	}
	b.check(b.folder.Save(r))
	return k
}

func (b *keyBed) ring() *keyring.Keyring {
	b.t.Helper()
	r, err := b.folder.Draft("halyard")
	b.check(err)
	return r
}

// release publishes packages "name version" as of now, the halyard-feeds among them
// with the keys that devices must know.
func (b *keyBed) release(serial int, packages ...string) {
	b.t.Helper()
	ctx := b.t.Context()
	l := &signer.Local{Folder: b.folder, Distribution: "halyard", Clock: func() time.Time { return b.now }}
	defer l.Close()
	pk, err := l.Role(ctx, keyring.Package, b.now)
	b.check(err)
	md, err := l.Role(ctx, keyring.Metadata, b.now)
	b.check(err)
	tree, err := store.OpenTree(b.dir)
	b.check(err)
	p := &feed.Publisher{Tree: tree, Layout: feed.Layout{Series: "1"}, Distribution: "halyard", Title: "Halyard", Package: pk, Metadata: md, Epoch: pk.Keys()[0].Epoch, Scopes: []string{"noarch"}}
	var mine []distro.PackageRecord
	for _, x := range packages {
		name, version, _ := strings.Cut(x, " ")
		r, file := b.pkg(name, version)
		r, err := p.AddPackage(ctx, r, bytes.NewReader(file), int64(len(file)), b.now)
		b.check(err)
		mine = append(mine, r)
	}
	b.all = feed.Union(b.all, mine)
	e := feed.Edition{Serial: serial, Release: distro.NewVersion("1", serial), At: b.now, Index: feed.Newest(b.all), History: b.all}
	s, err := p.WriteSnapshot(ctx, e)
	b.check(err)
	b.check(p.Switch(ctx, e, s))
}

// resign signs everything again with the package key of now, into its epoch.
func (b *keyBed) resign() {
	b.t.Helper()
	ctx := b.t.Context()
	l := &signer.Local{Folder: b.folder, Distribution: "halyard", Clock: func() time.Time { return b.now }}
	defer l.Close()
	pk, err := l.Role(ctx, keyring.Package, b.now)
	b.check(err)
	tree, err := store.OpenTree(b.dir)
	b.check(err)
	p := &feed.Publisher{Tree: tree, Layout: feed.Layout{Series: "1"}, Package: pk, Epoch: pk.Keys()[0].Epoch}
	var twins []distro.PackageRecord
	for _, r := range b.all {
		t, err := p.ResignPackage(ctx, r, b.now)
		b.check(err)
		twins = append(twins, t)
	}
	b.all = feed.Twins(b.all, twins)
}

func (b *keyBed) pkg(name, version string) (distro.PackageRecord, []byte) {
	b.t.Helper()
	p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: name, Version: version, Release: "1", Arch: "noarch", Summary: name, Licence: "MIT", Compressor: "gzip", BuildTime: b.now})
	b.check(err)
	path, body := "/usr/share/"+name, []byte(version)
	if name == "halyard-feeds" {
		path, body = keyFile, b.ring().Armored(keyring.Metadata, keyring.Package)
	}
	p.AddFile(rpmpack.RPMFile{Name: path, Mode: 0o100644, Body: body, Owner: "root", Group: "root"})
	var out bytes.Buffer
	b.check(p.Write(&out))
	h, err := rpm.Read(bytes.NewReader(out.Bytes()), int64(out.Len()), name)
	b.check(err)
	return distro.PackageRecord{Name: name, Version: version, Release: "1", Arch: "noarch", Scope: "noarch", SourceName: name, File: name + "-" + version + "-1.noarch.rpm",
		HeaderDigest: h.HeaderDigest, Digest: distro.DigestOf(out.Bytes()), Size: int64(out.Len())}, out.Bytes()
}

// follow points a device at a snapshot, or "current".
func (b *keyBed) follow(root *dnf.Root, snapshot string) {
	b.t.Helper()
	b.check(root.SetRepos([]dnf.Repo{{ID: "halyard", BaseURL: "file://" + b.dir + "/1/" + snapshot + "/noarch", GPGKeys: []string{filepath.Join(root.Path(), keyFile)}, Enabled: true}}))
}

// device installs release 1; an image brings the key file, as compose does.
func (b *keyBed) device(ctx context.Context) *dnf.Root {
	b.t.Helper()
	tool, err := dnf.Find(ctx)
	b.check(err)
	root, err := tool.NewRoot(ctx, filepath.Join(b.t.TempDir(), "device"), dnf.Options{})
	b.check(err)
	path := filepath.Join(root.Path(), keyFile)
	b.check(os.MkdirAll(filepath.Dir(path), 0o755))
	b.check(os.WriteFile(path, b.ring().Armored(keyring.Metadata, keyring.Package), 0o644))
	b.follow(root, "current")
	_, err = root.Install(ctx, "app", "halyard-feeds")
	b.check(err)
	return root
}

func (b *keyBed) upgraded(root *dnf.Root, want string) {
	b.t.Helper()
	r, err := root.Upgrade(b.t.Context())
	if err != nil {
		b.t.Fatalf("%v\n%s", err, r.Output)
	}
	var got []string
	for _, p := range r.Upgraded {
		got = append(got, p.Name+" "+p.Version)
	}
	if strings.Join(got, ", ") != want {
		b.t.Fatalf("upgraded %v, want %s\n%s", got, want, r.Output)
	}
}

// TestDevicesFollowARotation: a device that has the old keys only updates through the
// rotation of both roles; one that slept longer than the overlap is refused, and goes by
// the overlap's snapshot.
func TestDevicesFollowARotation(t *testing.T) {
	t.Parallel()
	b := newKeyBed(t)
	b.release(1, "app 1", "halyard-feeds 1")
	awake := b.device(t.Context())
	asleep, err := awake.Clone(t.Context(), filepath.Join(t.TempDir(), "asleep"))
	b.check(err)

	b.now = b.now.AddDate(0, 0, 30)
	for _, role := range []keyring.Role{keyring.Package, keyring.Metadata} {
		b.change(func(r *keyring.Keyring) (keyring.Key, error) { return r.Rotate(role, b.key(), 180*24*time.Hour, b.now) })
	}
	b.now = b.now.AddDate(0, 0, 1)
	b.release(2, "app 2", "halyard-feeds 2")
	b.follow(awake, "current")
	b.upgraded(awake, "app 2, halyard-feeds 2")
	if on, err := os.ReadFile(filepath.Join(awake.Path(), keyFile)); err != nil || bytes.Count(on, []byte("BEGIN PGP")) != 4 {
		t.Errorf("the device's key file holds %d keys: %v", bytes.Count(on, []byte("BEGIN PGP")), err)
	}

	b.now = b.now.AddDate(0, 0, 200)
	b.release(3, "app 3")
	b.follow(awake, "current")
	b.upgraded(awake, "app 3")

	b.follow(asleep, "current")
	if _, err := asleep.Upgrade(t.Context()); !errs.Is(err, errs.Denied) {
		t.Errorf("a device without the new keys takes what only they signed: %v", err)
	}
	b.follow(asleep, "snapshots/2")
	b.upgraded(asleep, "app 2, halyard-feeds 2")
	b.follow(asleep, "current")
	b.upgraded(asleep, "app 3")
}

// TestDevicesSurviveACompromise: with a next key on the devices, a revoked key costs
// them nothing: everything is signed again, header digests stay, and they go on. Without
// one, the metadata key, which is not compromised, signs the package that brings the new.
func TestDevicesSurviveACompromise(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]bool{"with a next key": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newKeyBed(t)
			if next {
				b.change(func(r *keyring.Keyring) (keyring.Key, error) {
					return r.Rotate(keyring.Package, b.key(), 10*365*24*time.Hour, b.now)
				})
			}
			b.release(1, "app 1", "halyard-feeds 1")
			old := b.all
			device := b.device(t.Context())

			b.now = b.now.AddDate(0, 0, 30)
			b.change(func(r *keyring.Keyring) (keyring.Key, error) {
				return r.Revoke("package-1", "the laptop was stolen", b.now)
			})
			if !next {
				b.change(func(r *keyring.Keyring) (keyring.Key, error) { return r.Add(keyring.Package, b.key(), b.now) })
			}
			if e, err := b.ring().PackageEpoch(b.now); err != nil || e != 2 {
				t.Errorf("epoch %d, %v", e, err)
			}
			// The new epoch of the pool: the same packages, signed again, beside the old files.
			b.resign()
			for i, r := range b.all {
				if r.HeaderDigest != old[i].HeaderDigest || r.Digest == old[i].Digest || r.KeyEpoch != 2 {
					t.Errorf("the twin of %+v is %+v", old[i], r)
				}
			}
			if next {
				b.release(2, "app 2", "halyard-feeds 2")
				b.follow(device, "current")
				b.upgraded(device, "app 2, halyard-feeds 2")
			} else {
				b.bridge(2, "halyard-feeds 2")
				b.follow(device, "current")
				b.upgraded(device, "halyard-feeds 2")
				b.release(3, "app 3")
				b.follow(device, "current")
				b.upgraded(device, "app 3")
			}
			if on, err := os.ReadFile(filepath.Join(device.Path(), keyFile)); err != nil || bytes.Contains(on, []byte(b.ring().Keys[0].PublicKey)) {
				t.Error("the revoked key is still in the device's file", err)
			}
		})
	}
}

// bridge is release with packages signed by the metadata key.
func (b *keyBed) bridge(serial int, packages ...string) {
	b.t.Helper()
	ctx := b.t.Context()
	l := &signer.Local{Folder: b.folder, Distribution: "halyard", Clock: func() time.Time { return b.now }}
	defer l.Close()
	md, err := l.Role(ctx, keyring.Metadata, b.now)
	b.check(err)
	tree, err := store.OpenTree(b.dir)
	b.check(err)
	p := &feed.Publisher{Tree: tree, Layout: feed.Layout{Series: "1"}, Distribution: "halyard", Title: "Halyard", Package: md, Metadata: md, Scopes: []string{"noarch"}}
	for _, x := range packages {
		name, version, _ := strings.Cut(x, " ")
		r, file := b.pkg(name, version)
		r, err := p.AddPackage(ctx, r, bytes.NewReader(file), int64(len(file)), b.now)
		b.check(err)
		b.all = feed.Union(b.all, []distro.PackageRecord{r})
	}
	e := feed.Edition{Serial: serial, Release: distro.NewVersion("1", serial), At: b.now, Index: feed.Newest(b.all), History: b.all}
	s, err := p.WriteSnapshot(ctx, e)
	b.check(err)
	b.check(p.Switch(ctx, e, s))
}
