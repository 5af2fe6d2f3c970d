package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/cli"
	"slipway/internal/source"
)

// builder is the one who gets a release from others and builds it: an ordinary user
// with a folder, the fixture's tools before the system's on PATH, and slipway.
type builder struct {
	dir  string // his folder
	path string
	cred *syscall.Credential
	uid  int
}

func newBuilder(t *testing.T, dir, tools string) *builder {
	t.Helper()
	b := &builder{dir: filepath.Join(dir, "builder"), uid: os.Geteuid()}
	if b.uid == 0 {
		u, err := user.Lookup(bitbakeUser)
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		b.uid, b.cred = uid, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}
	}
	program, err := exec.LookPath("slipway") // of testscript: for root alone
	if err == nil {
		err = os.MkdirAll(filepath.Join(b.dir, "bin"), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The distribution's repositories are folders of another user here.
	if err := os.WriteFile(filepath.Join(b.dir, ".gitconfig"), []byte("[safe]\n\tdirectory = *\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, 0, "cp", program, filepath.Join(b.dir, "bin", "slipway"))
	b.path = strings.Join([]string{tools, filepath.Join(b.dir, "bin"), "/usr/sbin:/usr/bin:/sbin:/bin"}, ":")
	b.own(t)
	return b
}

// own gives all below his folder to him.
func (b *builder) own(t *testing.T) {
	t.Helper()
	if b.cred != nil {
		run(t, b.dir, 0, "chown", "-R", fmt.Sprintf("%d:%d", b.cred.Uid, b.cred.Gid), b.dir)
	}
}

// sh runs a script as him, in his folder.
func (b *builder) sh(t *testing.T, script string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = b.dir
	cmd.Env = []string{"PATH=" + b.path, "HOME=" + b.dir, "LANG=en_US.UTF-8", "LC_ALL=en_US.UTF-8", "SHELL=/bin/bash", "TERM=dumb", "BB_SERVER_TIMEOUT=0", "BB_ENV_PASSTHROUGH_ADDITIONS=BB_NO_NETWORK", "BB_NO_NETWORK=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.cred}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("$ %s\n%s", script, cut(string(out)))
	return cmd.ProcessState.ExitCode(), string(out)
}

func (b *builder) do(t *testing.T, script string) string {
	t.Helper()
	code, out := b.sh(t, script)
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	return out
}

// serveSource runs slipway source serve for an export until the test ends, and comes back
// when both of its servers answer.
func serveSource(t *testing.T, export string, port int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var talk bytes.Buffer
	served := make(chan int, 1)
	go func() {
		served <- cli.Main(ctx, []string{"source", "serve", export}, cli.Stdio{In: strings.NewReader(""), Out: &talk, Err: &talk})
	}()
	t.Cleanup(func() { stop(); <-served })
	for _, p := range []int{port, port + 1} {
		for !answers(t, p) {
			select {
			case code := <-served:
				served <- code
				t.Fatalf("source serve: exit code %d\n%s", code, talk.String())
			default:
				runtime.Gosched()
			}
		}
	}
}

// TestRealBitBakeFromBinaryToSource walks docs/from-binary-to-source.md: a release with
// its signed cache, the same bits from source by somebody else, a change of his own with
// a number below the official one, in a feed of his own, installed beside the
// official one by dnf.
func TestRealBitBakeFromBinaryToSource(t *testing.T) {
	dir := bitbakeWorkspace(t)
	ws := filepath.Join(dir, "ws")
	slipway := func(args ...string) string {
		t.Helper()
		var out, talk bytes.Buffer
		code := cli.Main(t.Context(), append([]string{"--dir", ws}, args...), cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &talk})
		t.Logf("slipway %s: exit code %d\n%s%s", strings.Join(args, " "), code, talk.String(), cut(out.String()))
		if code != 0 {
			t.Fatal("exit code ", code)
		}
		return out.String()
	}
	definition := filepath.Join(ws, "slipway.yaml")
	text, err := os.ReadFile(definition)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("https://feeds.example.org/fixture"), []byte("file://"+ws+"/publication"), 1)
	text = append(text, "publish: {public: [packages, images, sdk, sources, sbom, configuration, sstate, downloads]}\n"...)
	if err := os.WriteFile(definition, text, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, ws, 0, "git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-q", "-a", "-m", "the cache is public")
	slipway("key", "create", "--no-passphrase")
	slipway("run", "--yes", "--by", "Ada Byron")
	slipway("sstate", "verify", filepath.Join(ws, "publication", "sstate"))
	port := freePorts(t)
	b := newBuilder(t, dir, filepath.Join(ws, "layers", "meta-fixture", "host-tools"))
	mine := filepath.Join(b.dir, "fixture-1.1")
	slipway("source", "export", "1.1", "-o", "conf", "--into", mine, "--port", strconv.Itoa(port))
	b.own(t)
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", filepath.Join(mine, "own", "gnupg"), "--kill", "all").Run()
	})

	// Before anything runs, doctor names what is missing, all at once.
	code, said := b.sh(t, "slipway source doctor fixture-1.1")
	for _, want := range []string{"is not prepared", "does not answer", "slipway source serve"} {
		if code != 1 || !strings.Contains(said, want) {
			t.Errorf("doctor of a folder that nobody prepared: exit code %d, %q is not told", code, want)
		}
	}
	b.do(t, "fixture-1.1/prepare && fixture-1.1/prepare")
	serveSource(t, mine, port)

	// The same bits: all of it is in the cache.
	said = b.do(t, ". fixture-1.1/env && slipway source doctor .. --json")
	var d source.Diagnosis
	if err := json.Unmarshal([]byte(said[strings.Index(said, "{"):]), &d); err != nil || d.Prediction == nil {
		t.Fatal(err, said)
	}
	if d.Blocks() || d.Prediction.Rate() < 100 || d.Prediction.Mirrors < 20 {
		t.Errorf("predicted %+v of %+v", d.Prediction, d.Answers)
	}
	said = b.do(t, ". fixture-1.1/env && bitbake packagegroup-fixture")
	m := regexp.MustCompile(`Sstate summary: Wanted (\d+) Local 0 Mirrors (\d+) Missed 0`).FindStringSubmatch(said)
	if m == nil || m[1] != m[2] || strings.Contains(said, "signature") {
		t.Errorf("not all came out of the signed cache: %v", m)
	}
	said = b.do(t, "slipway source compare fixture-1.1")
	if !strings.Contains(said, ", 0 differ, 0 are your own") {
		t.Error("the same bits are not the same: ", said)
	}
	same := 0
	built, _ := filepath.Glob(filepath.Join(mine, "build/tmp/deploy/rpm/*/*.rpm"))
	for _, f := range built {
		published, _ := filepath.Glob(filepath.Join(ws, "publication/1/pool/rpm", filepath.Base(filepath.Dir(f)), "*", filepath.Base(f)))
		if len(published) != 1 {
			t.Errorf("%s is not published: %v", f, published)
			continue
		}
		a, p := unsigned(t, f), unsigned(t, published[0])
		if a != p {
			t.Errorf("%s: %x, published %x", filepath.Base(f), a, p)
		}
		same++
		t.Logf("sha256 %x  %s, as published (both without the signature)", a, filepath.Base(f))
	}
	if same == 0 {
		t.Error("nothing was compared")
	}

	// A change of his own, in a layer of his own.
	layer := filepath.Join(b.dir, "meta-mine")
	for name, text := range map[string]string{
		"conf/layer.conf":                     "BBPATH .= \":${LAYERDIR}\"\nBBFILES += \"${LAYERDIR}/recipes-*/*/*.bbappend\"\nBBFILE_COLLECTIONS += \"mine\"\nBBFILE_PATTERN_mine = \"^${LAYERDIR}/\"\nBBFILE_PRIORITY_mine = \"10\"\nLAYERSERIES_COMPAT_mine = \"wrynose\"\n",
		"recipes-mine/hello/hello_%.bbappend": "do_install:append() {\n\tinstall -d ${D}${datadir}/hello\n\techo mine > ${D}${datadir}/hello/whose\n}\n",
	} {
		path := filepath.Join(layer, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	b.own(t)
	b.do(t, `echo "BBLAYERS += \"$PWD/meta-mine\"" >> fixture-1.1/build/conf/bblayers.conf &&
. fixture-1.1/env && bitbake packagegroup-fixture`)
	said = b.do(t, "slipway source compare fixture-1.1")
	if !strings.Contains(said, "own      hello-1.0-r0.0.0.core2_64") || !strings.Contains(said, ", 0 differ,") {
		t.Error("a change has no number below the official one: ", said)
	}
	// His objects are signed by his key, and nobody else's.
	signed, _ := filepath.Glob(filepath.Join(mine, "build/sstate-cache/*/*/sstate:hello:*_package.tar.zst.sig"))
	if len(signed) == 0 {
		t.Error("his own objects are not signed")
	}

	// His feed beside the official one.
	b.do(t, `slipway feed create mine --dir feed --key private/mine.key --no-passphrase --priority 99 &&
slipway feed add feed --key private/mine.key fixture-1.1/build/tmp/deploy/rpm/core2_64/hello-1.0-r0.0.0.core2_64.rpm`)
	repos := filepath.Join(b.dir, "device", "repos")
	repofile := slipway("feed", "repofile", "--url", "file://"+ws+"/publication", "--pin", "1.1")
	own, err := os.ReadFile(filepath.Join(b.dir, "feed", "mine.repo"))
	if err == nil {
		err = errors.Join(os.MkdirAll(repos, 0o755), os.WriteFile(filepath.Join(repos, "fixture.repo"), []byte(repofile), 0o644), os.WriteFile(filepath.Join(repos, "mine.repo"), own, 0o644))
	}
	// What the device's feed configuration sets: its architectures, the best first.
	vars := filepath.Join(b.dir, "device", "root", "etc", "dnf", "vars")
	err = errors.Join(err, os.MkdirAll(vars, 0o755))
	for name, value := range map[string]string{"slipway_arch": "core2_64", "slipway_machine": "fixture_a", "arch": "fixture_a:core2_64"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(vars, name), []byte(value+"\n"), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	dnf := func(args string) string {
		t.Helper()
		return run(t, b.dir, 0, "sh", "-c", `dnf -y --installroot="$PWD/device/root" --setopt=reposdir="$PWD/device/repos" --setopt=cachedir="$PWD/device/cache" --setopt=ignorearch=1 --releasever=1 --noplugins `+args+" 2>&1")
	}
	t.Log(dnf("install hello hostlibc"))
	installed := run(t, b.dir, 0, "rpm", "--root", filepath.Join(b.dir, "device", "root"), "-qa")
	t.Log(installed)
	if !strings.Contains(installed, "hello-1.0-r0.0.0.") || !strings.Contains(installed, "hostlibc-2.36-r0.0.") {
		t.Error("dnf did not take hello from his feed and the rest from the official one")
	}
	if got, err := os.ReadFile(filepath.Join(b.dir, "device/root/usr/share/hello/whose")); err != nil || string(got) != "mine\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// unsigned gives the sha256 of a package without its lead and signature: of the header
// and the payload.
func unsigned(t *testing.T, path string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || len(data) < 112 {
		t.Fatal(path, err)
	}
	// The lead has 96 bytes; a header has 16, 16 an entry, and its data, padded to 8.
	entries, size := binary.BigEndian.Uint32(data[104:]), binary.BigEndian.Uint32(data[108:])
	end := 112 + 16*int(entries) + int(size)
	end += (8 - end%8) % 8
	return sha256.Sum256(data[end:])
}

// freePorts gives the first of two free ports side by side, below those that the kernel
// gives to whoever connects: asking for one of those can answer itself.
func freePorts(t *testing.T) int {
	t.Helper()
	for i := range 200 {
		port := 20000 + (os.Getpid()*2+i*2)%10000
		var open []net.Listener
		for _, p := range []int{port, port + 1} {
			if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p)); err == nil {
				open = append(open, l)
			}
		}
		for _, l := range open {
			l.Close()
		}
		if len(open) == 2 {
			return port
		}
	}
	t.Fatal("no two free ports")
	return 0
}

func answers(t *testing.T, port int) bool {
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err == nil {
		c.Close()
	}
	return err == nil
}
