SUMMARY = "The build host's static BusyBox, packaged: /bin/sh for scriptlets"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"
INHIBIT_DEFAULT_DEPS = "1"
S = "${UNPACKDIR}"
# the binary is as Debian made it
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INHIBIT_SYSROOT_STRIP = "1"
SYSROOT_DIRS = ""
do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install() {
    install -D -m 0755 /bin/busybox ${D}${base_bindir}/busybox
    for l in sh cat echo mkdir rm ls; do
        ln -s busybox ${D}${base_bindir}/$l
    done
}
PACKAGES = "${PN}"
FILES:${PN} = "${base_bindir}"
INSANE_SKIP:${PN} += "ldflags already-stripped build-deps file-rdeps"
