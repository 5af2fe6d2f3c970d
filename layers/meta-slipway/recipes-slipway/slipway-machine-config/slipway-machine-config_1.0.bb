SUMMARY = "Which of the distribution's feeds are this machine's"
DESCRIPTION = "Values of the variables in the .repo file that differ from machine to \
machine: the architecture of generic packages, and the machine's own."
require recipes-slipway/slipway.inc

PACKAGE_ARCH = "${MACHINE_ARCH}"

# As packages and feeds spell them.
SLIPWAY_ARCH = "${@d.getVar('TUNE_PKGARCH').replace('-', '_')}"
SLIPWAY_MACHINE = "${@d.getVar('MACHINE_ARCH').replace('-', '_')}"

do_install() {
    install -d ${D}${sysconfdir}/dnf/vars
    echo ${SLIPWAY_ARCH} > ${D}${sysconfdir}/dnf/vars/slipway_arch
    echo ${SLIPWAY_MACHINE} > ${D}${sysconfdir}/dnf/vars/slipway_machine
}
