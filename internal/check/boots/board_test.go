package boots

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/qemu"
	"slipway/internal/qemu/qemutest"
)

// bench is a lab's program, as docs/boards.md describes it, with a QEMU for a board: it
// runs detached, as a board does, and reboots by itself.
const bench = `#!/bin/sh
set -eu
cd "$(dirname "$0")"
echo "$1" >> calls
case "$1" in
flash)
	cp --sparse=always "$2" disk; cp "$SLIPWAY_KEY" key ;;
on)
	: > serial
	nohup @QEMU@ -drive file=disk,format=raw,if=none,id=d,cache=unsafe -device virtio-blk-pci,drive=d -device virtio-rng-pci \
		-kernel kernel -initrd initramfs -append '@CMDLINE@' -m 256 -display none -nodefaults -serial file:serial -pidfile pid \
		-netdev user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:0-:22 -device virtio-net-pci,netdev=n,romfile= -monitor unix:monitor,server=on,wait=off \
		-fw_cfg name=opt/org.slipway/authorized_key,file=key >qemu.log 2>&1 </dev/null &
	for i in $(seq 100); do [ -s pid ] && exit 0; sleep 0.05; done
	cat qemu.log >&2; exit 1 ;;
off)
	if [ -s pid ]; then kill "$(cat pid)" 2>/dev/null || true; fi
	while [ -s pid ] && kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.05; done
	rm -f pid ;;
console)
	touch serial; exec tail -n 0 -F serial 2>/dev/null ;;
address)
	ss -Hltnp "src 127.0.0.1" | sed -n "s/.* \(127[^ ]*:[0-9]*\) .*pid=$(cat pid),.*/\1/p" | head -n 1 ;;
esac
`

// A real board, behind its program: flashed, switched on, followed on its console,
// rebooted, switched off; twice, one after the other.
func TestRealBoard(t *testing.T) {
	t.Parallel()
	native := qemutest.Native()
	rc := locked + ids + qemutest.Device + qemutest.Say
	k, dir := qemutest.Kernel(t, native, rc), t.TempDir()
	emulator := map[string]string{"qemu-x86_64": "qemu-system-x86_64 -machine q35 -cpu Nehalem,vendor=AuthenticAMD", "qemu-aarch64": "qemu-system-aarch64 -machine virt -cpu cortex-a57"}[native]
	script := strings.NewReplacer("@QEMU@", emulator, "@CMDLINE@", k.Cmdline+" no_timer_check nokaslr").Replace(bench)
	for name, data := range map[string][]byte{"kernel": k.Image, "initramfs": k.Initramfs, "bench": []byte(script)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	keys := t.TempDir()
	i := check.BootImage{Board: "tiny", Image: "light", Path: qemutest.Image(t, native, rc), Command: filepath.Join(dir, "bench"), Hide: []string{keys}, Log: []string{"*"}}
	r := ask(t, t.Context(), i).Result
	if r.Error != "" || len(r.Findings) != 0 || r.Asked < 20 || !strings.Contains(r.Note, "board") {
		t.Errorf("%+v", r)
	}
	t.Log(r.Note)
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	// The console is followed beside the other calls.
	got := strings.Join(slices.DeleteFunc(strings.Fields(string(calls)), func(c string) bool { return c == "console" }), " ")
	short, long := "off flash on address off", "off flash on address address off"
	if n := strings.Count(string(calls), "console"); err != nil || n != 3 || got != short+" "+long && got != long+" "+short {
		t.Errorf("%v: it was called %s, with %d consoles", err, got, n)
	}
	if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
		t.Error("the board is still on")
	}
}

// What goes wrong in a lab is nobody's pass and no fault of the image: the check fails
// closed, says which call it was, and switches the board off.
func TestLabThatFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, script, want string }{
		{"no flash", `[ $1 != flash ] || { echo no such slot >&2; exit 3; }`, "flash: exit status 3: no such slot"},
		{"no power", `[ $1 != on ] || { echo fuse blown >&2; exit 1; }; [ $1 != console ] || exec sleep 100`, "on: exit status 1: fuse blown"},
		{"no console", `[ $1 != console ] || { echo no tty >&2; exit 1; }`, "the program that shows the board's console ended: no tty"},
		{"no address", `[ $1 != console ] || { echo slipway: ready; exec sleep 100; }; [ $1 != address ] || echo over there`, `address says "over there", which is no HOST:PORT`},
		{"silent", `[ $1 != console ] || exec sleep 100`, "no output at all on the serial console within 30s"},
		{"panics", `[ $1 != console ] || { echo "Kernel panic - not syncing: VFS: Unable to mount root fs"; exec sleep 100; }`, "the kernel panics: Kernel panic - not syncing: VFS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			program, disk := filepath.Join(dir, "bench"), filepath.Join(dir, "disk")
			script := fmt.Sprintf("#!/bin/sh\necho $1 >> %s/calls\n%s\n", dir, tt.script)
			if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(disk, make([]byte, 4096), 0o600); err != nil {
				t.Fatal(err)
			}
			r := ask(t, t.Context(), check.BootImage{Board: "tiny", Image: "light", Path: disk, Command: program}).Result
			said := r.Error
			for _, f := range r.Findings {
				said += " " + f.Text
			}
			if !strings.Contains(said, tt.want) || r.Error == "" && len(r.Findings) == 0 {
				t.Errorf("%q; %+v", tt.want, r)
			}
			calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
			if lines := strings.Fields(string(calls)); len(lines) < 3 || lines[0] != "off" || lines[len(lines)-1] != "off" {
				t.Errorf("it was called %v", lines)
			}
		})
	}
	for name, mode := range map[string]os.FileMode{"absent": 0, "plain": 0o644} {
		program := filepath.Join(t.TempDir(), name)
		if mode != 0 {
			if err := os.WriteFile(program, nil, mode); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := qemu.Command(program, nil); err == nil {
			t.Errorf("a program that is %s is taken", name)
		}
	}
	if d := cmp.Diff("", string(inputs(check.BootImage{Digest: "sha256:x", Command: "lab/bench"}, nil))); d != "" {
		t.Error("the answer of a board is remembered by its image alone")
	}
}
