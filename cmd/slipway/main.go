// Command slipway runs the whole life of a binary distribution: see README.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"slipway/internal/cli"
	"slipway/internal/heap"
)

func main() {
	heap.Patient()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C kills
	}()
	program, err := os.Executable()
	if err != nil {
		program = "/proc/self/exe"
	}
	code := cli.Main(ctx, os.Args[1:], cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Program: program})
	stop()
	os.Exit(code)
}
