SUMMARY = "Updates a machine by itself, when its policy says so"
DESCRIPTION = "Runs slipway-device, or dnf alone, once a day after a random delay, and \
keeps a log. It is off until /etc/slipway/update.conf says enabled=yes; where there is \
systemd, slipway-update.timer is enabled, too."
require recipes-slipway/slipway.inc

SRC_URI = " \
    file://slipway-update \
    file://update.conf \
    file://slipway-update.service \
    file://slipway-update.timer \
    file://slipway-update.cron \
"

inherit allarch systemd

SYSTEMD_SERVICE:${PN} = "slipway-update.timer"
# The admin decides, whatever the distribution's list of services says.
SYSTEMD_AUTO_ENABLE = "disable"

do_install() {
    install -D -m 0755 ${S}/slipway-update ${D}${sbindir}/slipway-update
    install -D -m 0644 ${S}/update.conf ${D}${sysconfdir}/slipway/update.conf
    if ${SLIPWAY_SYSTEMD}; then
        install -D -m 0644 -t ${D}${systemd_system_unitdir} ${S}/slipway-update.service ${S}/slipway-update.timer
    else
        install -D -m 0644 ${S}/slipway-update.cron ${D}${sysconfdir}/cron.d/slipway-update
    fi
}

CONFFILES:${PN} = "${sysconfdir}/slipway/update.conf"
FILES:${PN} += "${systemd_system_unitdir}"
RDEPENDS:${PN} = "dnf ${@'' if d.getVar('SLIPWAY_SYSTEMD') == 'true' else 'cronie'}"
