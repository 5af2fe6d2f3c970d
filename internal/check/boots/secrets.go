package boots

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/qemu"
)

// secrets gives what the first boot made beside the host keys, which are asked over the
// network, by name of the file: a digest of it. An empty machine id is none. "root's
// password" is there when root has a hash.
func (s seen) secrets() map[string]string {
	empty := distro.DigestOf(nil).Hex()
	out := map[string]string{}
	for _, l := range s["secrets"] {
		f := strings.Fields(l)
		switch {
		case len(f) == 2 && f[0] == "shadow" && strings.HasPrefix(f[1], "$"):
			out["root's password"] = distro.DigestOf([]byte(f[1])).Hex()
		case len(f) == 2 && len(f[0]) == 64 && f[0] != empty && !strings.HasSuffix(f[1], ".pub"):
			out[strings.TrimPrefix(f[1], "*")] = f[0]
		}
	}
	return out
}

// kept tells of secrets that are others, or gone, after a reboot.
func (d *device) kept(now map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(d.secrets)) {
		d.asked++
		switch {
		case now[name] == "":
			d.find("secret-lost:"+object(name), "written to the disk and synced by the first boot", "%s is gone after a reboot", name)
		case now[name] != d.secrets[name]:
			d.find("secret-changes:"+object(name), "made once, synced, and kept on the device's disk", "%s is another one after a reboot", name)
		}
	}
}

// own tells of secrets that two devices of one image share.
func (d *device) own(other *device) {
	for _, name := range slices.Sorted(maps.Keys(d.secrets)) {
		d.asked++
		if d.secrets[name] == other.secrets[name] {
			d.find("secret-same:"+object(name), "made by the first boot, never by the build: the image must hold none", "two devices of the image have the same %s", name)
		}
	}
}

func object(name string) string {
	return strings.Trim(strings.ReplaceAll(strings.ReplaceAll(name, "'", ""), " ", "-"), "-")
}

// strangers asks whether ssh refuses what was never set: root without anything, with a
// stranger's key, with an empty and with a wrong password.
func (d *device) strangers(ctx context.Context, guest *qemu.Guest, stranger *qemu.Key) error {
	wrong := rand.Text()
	d.asked += 4
	in, err := guest.Strangers(ctx, "root", stranger, "", wrong)
	if err != nil {
		return err
	}
	switch {
	case in.How == "none":
		d.find("ssh-nothing", "PermitEmptyPasswords no, and no -B for dropbear; root's password field must be * or !", "the device lets root in by ssh without a key and without a password")
	case in.How == "publickey":
		d.find("stranger", "only the seeded key may be in authorized_keys", "the device lets in a key that nobody gave it")
	case in.How != "" && in.Password == "":
		d.find("ssh-empty-password", "PermitEmptyPasswords no, and no -B for dropbear; root's password field must be * or !", "the device lets root in by ssh with an empty password (%s)", in.How)
	case in.How != "":
		d.find("ssh-any-password", "whatever asks for the password must know it: PAM, or the server's own configuration", "the device lets root in by ssh with a password that nobody set (%s)", in.How)
	}
	d.offered = in.Offered
	return nil
}
