package boots

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// socket is one that others can reach.
type socket struct {
	protocol string // tcp, udp
	port     int
}

func (s socket) String() string { return fmt.Sprintf("%s/%d", s.protocol, s.port) }

// dhcp: a client of DHCP must hear its server.
func (s socket) dhcp() bool { return s.protocol == "udp" && (s.port == 68 || s.port == 546) }

// listening reads /proc/net/{tcp,tcp6,udp,udp6}, each after a line with its name
// (proc(5)): sockets that wait for anybody and are not bound to the loopback,
// sorted, each once.
func listening(text string) []socket {
	var all []socket
	protocol := ""
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 1 {
			protocol = strings.TrimSuffix(f[0], "6")
			continue
		}
		// sl local_address rem_address st: 0A is TCP_LISTEN; 07 is what a UDP socket
		// has that is connected to nobody.
		if len(f) < 4 || !(protocol == "tcp" && f[3] == "0A" || protocol == "udp" && f[3] == "07") {
			continue
		}
		address, port, _ := strings.Cut(f[1], ":")
		n, err := strconv.ParseUint(port, 16, 16)
		if err != nil || loopback(address) {
			continue
		}
		if s := (socket{protocol, int(n)}); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b socket) int { return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.port, b.port)) })
	return all
}

// loopback judges an address as the kernel prints it: words of four bytes in the
// machine's order, which is little-endian on every rig.
func loopback(address string) bool {
	switch len(address) {
	case 8:
		return strings.HasSuffix(address, "7F")
	case 32:
		return address == "00000000000000000000000001000000" || strings.HasPrefix(address, "0000000000000000FFFF0000") && strings.HasSuffix(address, "7F")
	}
	return false
}

type changed struct{ path, text string }

// verified reads what rpm -Va says: lines "S.5....T.  c /path" or "missing  c
// /path". A configuration file that has changed is a device's own business; a
// missing one is not. config tells whether there was such a line.
func verified(text string) (lines []changed, config bool) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.Index(line, " /")
		if i < 0 {
			continue
		}
		head := strings.Fields(line[:i])
		if len(head) == 2 && head[0] != "missing" && (head[1] == "c" || head[1] == "g") {
			config = true
			continue
		}
		lines = append(lines, changed{path: line[i+1:], text: strings.Join(strings.Fields(line), " ")})
	}
	return lines, config
}
