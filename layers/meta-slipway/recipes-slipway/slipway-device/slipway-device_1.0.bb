SUMMARY = "Keeps a device at one signed release, also through a power cut"
DESCRIPTION = "A static program beside dnf: it tells an old copy of the feed from the \
newest, updates to one release as a whole, and finishes at the next boot what a power \
cut interrupted."
require recipes-slipway/slipway.inc
# The program's own, and those of the Go modules that are linked in.
LICENSE = "Apache-2.0 & BSD-3-Clause"
LIC_FILES_CHKSUM += "file://${COMMON_LICENSE_DIR}/BSD-3-Clause;md5=550794465ba0ec5312d6919e203a55f9"

SRC_URI = "file://slipway-device.init file://slipway-device.service"

inherit update-rc.d

# The folder with slipway-device-<architecture>, static programs: `make build` of
# Slipway leaves them in build/. They are not compiled here: Slipway needs a newer Go
# than kirkstone and scarthgap have, and a build without network its modules.
SLIPWAY_DEVICE_DIR ?= ""
# Which folder it is decides nothing, the program everything.
SLIPWAY_DEVICE_DIR[vardepvalue] = ""

def slipway_go_arch(d):
    arch = d.getVar('TARGET_ARCH')
    if arch == 'arm':
        return 'armv7' if 'armv7a' in (d.getVar('TUNE_FEATURES') or '').split() or 'armv7ve' in (d.getVar('TUNE_FEATURES') or '').split() else ''
    return {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(arch, '')

SLIPWAY_DEVICE_PROGRAM = "slipway-device-${@slipway_go_arch(d)}"
do_install[file-checksums] += "${@d.expand('${SLIPWAY_DEVICE_DIR}/${SLIPWAY_DEVICE_PROGRAM}:True') if d.getVar('SLIPWAY_DEVICE_DIR') else ''}"

python () {
    folder = d.getVar('SLIPWAY_DEVICE_DIR')
    if not folder:
        raise bb.parse.SkipRecipe('SLIPWAY_DEVICE_DIR is not set: name the folder with the programs slipway-device-<architecture>')
    if not slipway_go_arch(d):
        raise bb.parse.SkipRecipe('slipway-device is not made for %s (%s)' % (d.getVar('TARGET_ARCH'), d.getVar('TUNE_FEATURES')))
    program = d.expand('${SLIPWAY_DEVICE_DIR}/${SLIPWAY_DEVICE_PROGRAM}')
    if not os.path.isfile(program):
        raise bb.parse.SkipRecipe('there is no %s: make build, or make device DEVICES=..., in Slipway makes it' % program)
}

do_install() {
    install -D -m 0755 ${SLIPWAY_DEVICE_DIR}/${SLIPWAY_DEVICE_PROGRAM} ${D}${sbindir}/slipway-device
    install -d ${D}${localstatedir}/lib/slipway-device
    if ${SLIPWAY_SYSTEMD}; then
        # The unit runs the same script.
        install -D -m 0755 ${S}/slipway-device.init ${D}${libexecdir}/slipway/slipway-device
        install -D -m 0644 ${S}/slipway-device.service ${D}${systemd_system_unitdir}/slipway-device.service
        sed -i 's|@LIBEXEC@|${libexecdir}|' ${D}${systemd_system_unitdir}/slipway-device.service
        # Always on, and not by the class for services: that would start it again in the
        # middle of the update which replaces this package.
        install -d ${D}${systemd_system_unitdir}/basic.target.wants
        ln -s ../slipway-device.service ${D}${systemd_system_unitdir}/basic.target.wants/slipway-device.service
    elif ${SLIPWAY_SYSVINIT}; then
        install -D -m 0755 ${S}/slipway-device.init ${D}${sysconfdir}/init.d/slipway-device
    fi
}

FILES:${PN} += "${systemd_system_unitdir}"
INHIBIT_UPDATERCD_BBCLASS = "${@'1' if d.getVar('SLIPWAY_SYSTEMD') == 'true' else ''}"
INITSCRIPT_NAME = "slipway-device"
# After the first boot, before any service.
INITSCRIPT_PARAMS = "start 95 S ."

# It is as Go made it: static, without symbols.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_SYSROOT_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INSANE_SKIP:${PN} = "already-stripped ldflags"

RDEPENDS:${PN} = "rpm"
RRECOMMENDS:${PN} = "dnf ca-certificates"
