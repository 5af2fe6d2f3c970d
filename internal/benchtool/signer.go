package main

import (
	"context"
	"os"
	"time"

	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/signer"
)

func init() {
	work["do-sign-process"] = doSignProcess // KEYS FOLDER OUT
	work["serve-signer"] = serveSigner      // KEYS --socket PATH --child
}

// keyFolder writes a package key as a distribution's key folder.
func keyFolder(dir string, key *sign.Key) error {
	f, k := keyring.Folder{Dir: dir}, keyring.Key{Role: keyring.Package, Number: 1, PublicKey: string(key.PublicArmored())}
	if err := key.Save(f.PrivatePath(k)); err != nil {
		return err
	}
	return f.WritePublic(k)
}

// doSignProcess is doSign with the key in a signer process of its own, as publish has it.
func doSignProcess(ctx context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c, err := signer.Start(ctx, self, []string{"serve-signer", args[0]}, os.Stderr)
	if err != nil {
		return err
	}
	at := time.Now()
	s, err := c.Role(ctx, keyring.Package, at)
	if err != nil {
		c.Close()
		return err
	}
	files, err := packagesOf(args[1])
	if err == nil {
		err = signFiles(ctx, s, at, files, args[2])
	}
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

func serveSigner(ctx context.Context, args []string) error {
	s := &signer.Server{Local: &signer.Local{Folder: keyring.Folder{Dir: args[0]}, Distribution: "bench", Clock: time.Now}}
	l, err := signer.Listen(args[2], false)
	if err := signer.Ready(os.Stdout, err); err != nil || l == nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // it never says anything: this is its end
		cancel()
	}()
	if err := s.Serve(ctx, l); err != nil {
		return err
	}
	return s.Close()
}
