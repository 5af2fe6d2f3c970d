SUMMARY = "What a device of a distribution has that Slipway publishes"
DESCRIPTION = "Feeds, first boot, updates. An image that installs it also needs the \
image feature package-management, which keeps rpm's database, and an ssh server."

PACKAGE_ARCH = "${MACHINE_ARCH}"
inherit packagegroup

# Two are there when Slipway, or the user, says what goes into them. That they are there
# decides, not the folders.
SLIPWAY_GIVEN = "${@'slipway-feed-config' if d.getVar('SLIPWAY_FEED_CONFIG') else ''} ${@'slipway-device' if d.getVar('SLIPWAY_DEVICE_DIR') else ''}"
SLIPWAY_GIVEN[vardepvalue] = "${SLIPWAY_GIVEN}"

RDEPENDS:${PN} = " \
    ${SLIPWAY_GIVEN} \
    slipway-firstboot \
    slipway-machine-config \
    slipway-ready \
    slipway-update \
    ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'slipway-presets', '', d)} \
"
