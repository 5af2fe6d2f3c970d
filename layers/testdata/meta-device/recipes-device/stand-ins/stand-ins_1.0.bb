SUMMARY = "A shell, and names of packages that are not built here"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"
INHIBIT_DEFAULT_DEPS = "1"
S = "${UNPACKDIR}"
do_configure[noexec] = "1"
do_compile[noexec] = "1"
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
NAMES = "ca-certificates cronie dnf gnupg openssl-bin rpm util-linux-findfs"
PACKAGES = "shell depmod ${NAMES}"
do_install() {
    install -D -m 0755 /bin/busybox ${D}${base_bindir}/busybox
    for applet in sh ln cp mv rm sync mkdir; do
        ln -s busybox ${D}${base_bindir}/$applet
    done
    install -d ${D}${base_sbindir}
    ln -s ../bin/busybox ${D}${base_sbindir}/depmod
}
FILES:shell = "${base_bindir}"
FILES:depmod = "${base_sbindir}"
RPROVIDES:shell = "/bin/sh"
INSANE_SKIP:shell = "already-stripped ldflags"
python () {
    for name in d.getVar('NAMES').split():
        d.setVar('ALLOW_EMPTY:' + name, '1')
}
