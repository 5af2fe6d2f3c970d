package security

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// capabilityNames are those of linux/capability.h by number.
var capabilityNames = strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot
sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm
block_suspend audit_read perfmon bpf checkpoint_restore`)

// capabilities reads the attribute security.capability (struct vfs_cap_data of
// linux/capability.h): what a program may get, permitted or inheritable.
func capabilities(b []byte) string {
	le := binary.LittleEndian
	if len(b) < 12 {
		return fmt.Sprintf("capabilities in an unknown form, %x", b)
	}
	mask := uint64(le.Uint32(b[4:])) | uint64(le.Uint32(b[8:]))
	if len(b) >= 20 {
		mask |= uint64(le.Uint32(b[12:]))<<32 | uint64(le.Uint32(b[16:]))<<32
	}
	var names []string
	for i := range 64 {
		if mask&(1<<i) == 0 {
			continue
		}
		if i < len(capabilityNames) {
			names = append(names, "cap_"+capabilityNames[i])
		} else {
			names = append(names, fmt.Sprintf("capability %d", i))
		}
	}
	if names == nil {
		return "an empty set of capabilities"
	}
	return strings.Join(names, ", ")
}
