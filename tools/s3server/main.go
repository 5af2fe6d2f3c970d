// Command s3server is an S3 server for tests: versitygw on a folder. It is a
// module of its own, so that nothing of what it needs comes into slipway's.
//
//	s3server ROOT
//
// Each folder in ROOT is a bucket. It takes a free port of 127.0.0.1, prints a line
// "listening on ADDRESS", and serves until its standard input ends: it cannot
// outlive the test that started it. The one account is test, secret test-secret,
// in region test-1.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("s3server: ")
	if len(os.Args) != 2 {
		log.Fatal("usage: s3server ROOT")
	}
	if err := serve(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func serve(root string) error {
	sidecar, err := os.MkdirTemp("", "s3server-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(sidecar)
	// Metadata beside the objects: file systems of test machines lack xattr.
	side, err := meta.NewSideCar(sidecar)
	if err != nil {
		return err
	}
	backend, err := posix.New(root, side, posix.PosixOpts{SideCarDir: sidecar, Concurrency: 64})
	if err != nil {
		return err
	}
	defer backend.Shutdown()
	user := middlewares.RootUserConfig{Access: "test", Secret: "test-secret"}
	iam := auth.NewIAMServiceSingle(auth.Account{Access: user.Access, Secret: user.Secret, Role: auth.RoleAdmin})
	// The server takes no listener: free a port for it.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := l.Addr().String()
	l.Close()
	server, err := s3api.New(backend, user, "test-1", iam, nil, nil, nil, nil, s3api.WithQuiet(), s3api.WithKeepAlive(), s3api.WithConcurrencyLimiter(4096, 1024), s3api.WithOnListen(func() { fmt.Println("listening on", addr) }))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- server.ServeMultiPort([]string{addr}) }()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		done <- nil
	}()
	return <-done
}
