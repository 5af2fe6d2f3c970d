SUMMARY = "Which of the distribution's feeds are this machine's"
DESCRIPTION = "Values of the variables in the .repo file that differ from machine to \
machine: the architecture of generic packages, and the machine's own."
require recipes-slipway/slipway.inc

PACKAGE_ARCH = "${MACHINE_ARCH}"

# As packages and feeds spell them.
SLIPWAY_ARCH = "${@d.getVar('TUNE_PKGARCH').replace('-', '_')}"
SLIPWAY_MACHINE = "${@d.getVar('MACHINE_ARCH').replace('-', '_')}"

# The architecture of the SoC family: what BSP layers put between those of the tune and
# the machine's. Where there are several, this names the one that has a feed. A machine
# without a family reads its own feed in the family's place.
SLIPWAY_SOC_FAMILY ?= ""

def slipway_soc_families(d):
    tune = (d.getVar('PACKAGE_EXTRA_ARCHS:tune-' + d.getVar('DEFAULTTUNE')) or '').split()
    generic = tune + ['all', 'any', 'noarch', d.getVar('TUNE_PKGARCH'), d.getVar('MACHINE_ARCH')]
    return [a.replace('-', '_') for a in d.getVar('PACKAGE_ARCHS').split() if a not in generic]

SLIPWAY_SOC = "${@d.getVar('SLIPWAY_SOC_FAMILY').replace('-', '_') or (slipway_soc_families(d) + [d.getVar('SLIPWAY_MACHINE')])[0]}"

python slipway_check_soc_family () {
    families, chosen = slipway_soc_families(d), d.getVar('SLIPWAY_SOC_FAMILY').replace('-', '_')
    if chosen and chosen not in families:
        bb.fatal('SLIPWAY_SOC_FAMILY is %s, and no packages are built for it: PACKAGE_ARCHS is %s' % (chosen, d.getVar('PACKAGE_ARCHS')))
    if not chosen and len(families) > 1:
        bb.fatal('%s has several architectures between tune and machine (%s): name the one with a feed in SLIPWAY_SOC_FAMILY' % (d.getVar('MACHINE'), ', '.join(families)))
}
do_install[prefuncs] += "slipway_check_soc_family"

do_install() {
    install -d ${D}${sysconfdir}/dnf/vars
    echo ${SLIPWAY_ARCH} > ${D}${sysconfdir}/dnf/vars/slipway_arch
    echo ${SLIPWAY_MACHINE} > ${D}${sysconfdir}/dnf/vars/slipway_machine
    echo ${SLIPWAY_SOC} > ${D}${sysconfdir}/dnf/vars/slipway_soc
}
