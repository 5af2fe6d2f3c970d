package selfupgrades

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/qemu"
)

// serve gives the address under which a device reads a feed. A folder of this
// machine (file://) is served on the loopback until stop, below a path that nobody
// else knows: a candidate is not public.
func serve(url string) (address string, stop func(), err error) {
	dir, local := strings.CutPrefix(url, "file://")
	if !local {
		return url, func() {}, nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, errs.E(errs.Unavailable, "serve the feed to the device", err)
	}
	secret := "/" + rand.Text()
	s := &http.Server{Handler: http.StripPrefix(secret, http.FileServer(http.Dir(dir))), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	return "http://" + net.JoinHostPort(qemu.Host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)) + secret, func() { _ = s.Close() }, nil
}
