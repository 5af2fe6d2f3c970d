package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// kvmWithin is how long a kernel has to say its first line under KVM.
const kvmWithin = 5 * time.Second

// kvmAnswer is what trying KVM brought: once per process, and remembered in the
// user's cache folder as long as the machine is up, because a hang costs 5 s.
type kvmAnswer struct {
	Works bool   `json:"works"`
	Why   string `json:"why"`
}

var kvm struct {
	sync.Mutex
	known  bool
	answer kvmAnswer
}

// accelerator decides how the guest runs, and notes why.
func (g *Guest) accelerator(ctx context.Context, k Kernel) string {
	accel, why := g.opt.Accel, "as ordered"
	if accel == "" {
		var a kvmAnswer
		if a = g.rig.kvmWorks(ctx, k, g.dir); a.Works {
			accel = "kvm"
		} else {
			accel = "tcg"
		}
		why = a.Why
	}
	g.mu.Lock()
	g.accel, g.why = accel, why
	g.mu.Unlock()
	return accel
}

func (r *Rig) kvmWorks(ctx context.Context, k Kernel, dir string) kvmAnswer {
	if !r.native() {
		return kvmAnswer{Why: "this machine is of another architecture"}
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return kvmAnswer{Why: "no /dev/kvm for this user"}
	}
	_ = f.Close()
	kvm.Lock()
	defer kvm.Unlock()
	if kvm.known {
		return kvm.answer
	}
	memory := kvmMemory()
	if b, err := os.ReadFile(memory); err == nil && json.Unmarshal(b, &kvm.answer) == nil && kvm.answer.Why != "" {
		kvm.known = true
		return kvm.answer
	}
	answer, sure := r.tryKVM(ctx, k, dir)
	if !sure {
		return answer
	}
	kvm.answer, kvm.known = answer, true
	if b, err := json.Marshal(answer); err == nil && memory != "" {
		if os.MkdirAll(filepath.Dir(memory), 0o755) == nil {
			_ = os.WriteFile(memory, b, 0o644)
		}
	}
	return answer
}

// kvmMemory is a file whose name changes with each start of the machine; "" is nowhere.
func kvmMemory() string {
	cache, err := os.UserCacheDir()
	id, err2 := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || err2 != nil {
		return ""
	}
	return filepath.Join(cache, "slipway", "kvm-"+strings.TrimSpace(string(id))+".json")
}

// tryKVM starts a kernel under KVM and waits for its first line. The answer is
// not sure when the caller gave up.
func (r *Rig) tryKVM(ctx context.Context, k Kernel, dir string) (answer kvmAnswer, sure bool) {
	kernel := filepath.Join(dir, "kernel") // arguments has written it
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	spoke := make(chan struct{})
	var said []byte
	heard := false
	p := &power{}
	err := r.start(ctx, "kvm", []string{"-m", "512", "-kernel", kernel, "-append", "panic=-1 console=" + r.Console,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"}, p, func(b []byte) {
		if said = append(said, b...); !heard && bytes.Contains(said, []byte("Linux version")) {
			heard = true
			close(spoke)
		}
	}, func(string, json.RawMessage) {})
	if p.done == nil {
		return kvmAnswer{Why: fmt.Sprintf("KVM does not start: %v", err)}, false
	}
	defer func() { cancel(); <-p.done }()
	select {
	case <-spoke:
		return kvmAnswer{Works: true, Why: "KVM has shown a kernel's first line"}, true
	case <-p.done:
		why, _, _ := strings.Cut(p.stderr.String(), "\n")
		return kvmAnswer{Why: "KVM ends at once: " + clean([]byte(why))}, ctx.Err() == nil
	case <-time.After(kvmWithin):
		return kvmAnswer{Why: "KVM showed no kernel within 5 s, though /dev/kvm is there"}, true
	case <-ctx.Done():
		return kvmAnswer{Why: "not tried to the end"}, false
	}
}
