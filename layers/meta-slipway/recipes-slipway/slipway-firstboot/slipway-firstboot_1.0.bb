SUMMARY = "Makes one device of an image: keys, machine id, owner"
DESCRIPTION = "At its first boot a device makes its ssh host key and its machine id, \
and is claimed: by an authorized key that it finds, else by a random password that \
it shows once on its console. An image holds none of these."
require recipes-slipway/slipway.inc

SRC_URI = " \
    file://slipway-firstboot \
    file://slipway-ready \
    file://slipway-firstboot.service \
    file://slipway-ready.service \
    file://slipway-firstboot.init \
    file://slipway-ready.init \
"

inherit allarch systemd update-rc.d

# Where it is noted what is done; where the root is read-only, all that makes the
# device one is kept there, so it must outlive a reboot.
SLIPWAY_STATE_DIR ?= "/var/lib/slipway"

PACKAGES =+ "slipway-ready"
SYSTEMD_PACKAGES = "${PN} slipway-ready"
SYSTEMD_SERVICE:${PN} = "slipway-firstboot.service"
SYSTEMD_SERVICE:slipway-ready = "slipway-ready.service"
INITSCRIPT_PACKAGES = "${PN} slipway-ready"
INITSCRIPT_NAME:${PN} = "slipway-firstboot"
# Last of what runs once, before any service.
INITSCRIPT_PARAMS:${PN} = "start 90 S ."
INITSCRIPT_NAME:slipway-ready = "slipway-ready"
INITSCRIPT_PARAMS:slipway-ready = "start 99 2 3 4 5 ."

do_install() {
    install -D -m 0755 ${S}/slipway-firstboot ${D}${sbindir}/slipway-firstboot
    install -D -m 0755 ${S}/slipway-ready ${D}${sbindir}/slipway-ready
    install -d ${D}${sysconfdir}/default ${D}${sysconfdir}/ssh/sshd_config.d
    # dropbear takes any kind of key from the one file that OE-Core's service names.
    printf '%s\n' 'state=${SLIPWAY_STATE_DIR}' 'hostkey=/etc/dropbear/dropbear_rsa_host_key' > ${D}${sysconfdir}/default/slipway-firstboot
    install -d -m 0755 ${D}${SLIPWAY_STATE_DIR}
    # A mount point for the keys, where the root is read-only.
    install -d -m 0700 ${D}${ROOT_HOME}/.ssh
    if ${SLIPWAY_SYSTEMD}; then
        install -D -m 0644 -t ${D}${systemd_system_unitdir} ${S}/slipway-firstboot.service ${S}/slipway-ready.service
        sed -i 's|@STATE@|${SLIPWAY_STATE_DIR}|' ${D}${systemd_system_unitdir}/slipway-firstboot.service
    elif ${SLIPWAY_SYSVINIT}; then
        install -D -m 0755 ${S}/slipway-firstboot.init ${D}${sysconfdir}/init.d/slipway-firstboot
        install -D -m 0755 ${S}/slipway-ready.init ${D}${sysconfdir}/init.d/slipway-ready
        : > ${D}${sysconfdir}/machine-id
        chmod 0444 ${D}${sysconfdir}/machine-id
    fi
}

SUMMARY:slipway-ready = "Says on the console that the device can be reached"
DESCRIPTION:slipway-ready = "At every boot, once port 22 listens, the console says \
slipway: ready. Slipway's boot checks wait for that line."
FILES:slipway-ready = "${sbindir}/slipway-ready ${sysconfdir}/init.d/slipway-ready"
FILES:${PN} += "${SLIPWAY_STATE_DIR} ${ROOT_HOME}/.ssh"

# A new version of this package must not undo what a device has become.
CONFFILES:${PN} = "${sysconfdir}/default/slipway-firstboot ${@'' if d.getVar('SLIPWAY_SYSVINIT') == 'false' else d.getVar('sysconfdir') + '/machine-id'}"

RDEPENDS:${PN} = "openssl-bin util-linux-findfs"
# For a claim by QEMU's firmware, and for a drive with FAT or ISO 9660.
RRECOMMENDS:${PN} = "kernel-module-qemu-fw-cfg kernel-module-vfat kernel-module-isofs"
