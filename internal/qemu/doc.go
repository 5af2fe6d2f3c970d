// Package qemu starts images in QEMU, the way a board would: it is the only
// package that starts qemu.
//
// A [Rig] is a kind of machine (qemu-x86_64, qemu-aarch64). A [Guest] is one
// device made of an image: a copy of it, a serial console kept as a log, a
// loopback port that leads to its port 22.
//
//	rig, err := qemu.Find("qemu-aarch64")
//	key, err := qemu.NewKey()
//	guest, err := rig.Boot(ctx, qemu.Options{
//		Name: "light on qemuarm64", Dir: dir, Image: "light.img",
//		FwCfg: map[string][]byte{qemu.SeedKey: key.Authorized()},
//	})
//	defer guest.Kill()
//	err = guest.WaitReady(ctx)
//	shell, err := guest.SSH(ctx, qemu.Login{Key: key})
//	out, err := shell.Run(ctx, "uname -r")
//
// Kernel, initramfs and command line are read from the image at each power-on,
// as a boot loader would. A guest that reboots makes QEMU end (-no-reboot), and
// the rig switches it on again with what the image then names: a kernel upgrade
// is seen.
//
// Promises: no process stays behind, whatever ends this one (the guest's process
// group is killed with ctx, and the kernel kills it with us); nothing of the
// host's QEMU configuration reaches a guest; an image is never written to unless
// [Options.InPlace] says so; the serial log stays.
//
// A guest is emulated (TCG) unless KVM has shown, on this machine and since it
// was started, that it really runs a kernel: there are machines on which
// /dev/kvm answers every question and hangs every guest. [Guest.Accel] says
// which.
package qemu
