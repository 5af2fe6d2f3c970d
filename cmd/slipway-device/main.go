// Command slipway-device keeps a device at one snapshot of its distribution:
// docs/device-program.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"slipway/internal/device"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := device.Main(ctx, os.Args[1:], device.Stdio{Out: os.Stdout, Err: os.Stderr}, device.Options{})
	stop()
	os.Exit(code)
}
