SUMMARY = "What the SDK has for its host: a script, as nothing is compiled for it"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"
inherit nativesdk
INHIBIT_DEFAULT_DEPS = "1"
S = "${UNPACKDIR}"
do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install() {
    install -d ${D}${bindir}
    printf '#!/bin/sh\necho fixture\n' > ${D}${bindir}/fixture-tool
    chmod 0755 ${D}${bindir}/fixture-tool
}
