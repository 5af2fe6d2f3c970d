# The kernel and its modules as one set, with one name for ever.
#
# A kernel's packages carry its version in their names (kernel-image-6.18.1): the old
# one stays beside the new one, and `dnf upgrade` alone brings no new one. The package
# kernel-set requires image and modules of one build with "=": an upgrade of it brings
# them, going back of it goes back, and each makes the machine boot its kernel. It is
# not called kernel, as dnf never replaces a package of that name.
#
# Linux recipes take this class when conf has
#   KERNEL_CLASSES:append = " slipway-kernel-set"
# and so it is in conf/distro/include/slipway.inc.

# Modules of the set: all, or a list (snd-usb-audio and kernel-module-snd-usb-audio are
# the same). Of a list, those that a kernel has built in are left out with a note.
SLIPWAY_KERNEL_MODULES ?= "all"

PACKAGES:append = " ${KERNEL_PACKAGE_NAME}-set"
ALLOW_EMPTY:${KERNEL_PACKAGE_NAME}-set = "1"
SUMMARY:${KERNEL_PACKAGE_NAME}-set = "The kernel that this machine boots"
DESCRIPTION:${KERNEL_PACKAGE_NAME}-set = "Brings the image and the modules of one build of Linux, and makes the machine boot it."
RDEPENDS:${KERNEL_PACKAGE_NAME}-set = " \
    ${KERNEL_PACKAGE_NAME}-base (= ${EXTENDPKGV}) \
    ${KERNEL_PACKAGE_NAME}-image (= ${EXTENDPKGV}) \
    ${KERNEL_PACKAGE_NAME}-modules (= ${EXTENDPKGV}) \
"

def slipway_set_modules(d):
    """The packages of modules that the set requires, of those that this kernel has."""
    kernel = d.getVar('KERNEL_PACKAGE_NAME')
    prefix = (d.getVar('KERNEL_MODULE_PACKAGE_PREFIX') or '') + kernel + '-module-'
    suffix = d.getVar('KERNEL_MODULE_PACKAGE_SUFFIX') or ''
    have = sorted(p for p in d.getVar('PACKAGES').split() if p.startswith(prefix) and p.endswith(suffix))
    wanted = d.getVar('SLIPWAY_KERNEL_MODULES').split()
    if wanted == ['all']:
        return have
    chosen = []
    for name in wanted:
        if name.startswith(kernel + '-module-'):
            name = name[len(kernel + '-module-'):]
        package = prefix + legitimize_package_name(name) + suffix
        if package in have:
            chosen.append(package)
        else:
            bb.note('SLIPWAY_KERNEL_MODULES: this kernel has no module package %s; built in?' % package)
    return chosen

# After the packages of modules are known.
python slipway_kernel_set () {
    package = d.getVar('KERNEL_PACKAGE_NAME') + '-set'
    modules = slipway_set_modules(d)
    if d.getVar('SLIPWAY_KERNEL_MODULES').split() != ['all'] and d.getVar('KERNEL_SPLIT_MODULES') == '1':
        # The package of all modules is only for those who want all.
        keep = [l for l in bb.utils.explode_dep_versions2(d.getVar('RDEPENDS:' + package)).items() if not l[0].endswith('-modules')]
        d.setVar('RDEPENDS:' + package, bb.utils.join_deps(dict(keep), commasep=False))
    for m in modules:
        d.appendVar('RDEPENDS:' + package, ' %s (= ${EXTENDPKGV})' % m)
}
PACKAGESPLITFUNCS:append = " slipway_kernel_set"
do_package[vardeps] += "SLIPWAY_KERNEL_MODULES"

# The name that the boot loader knows points at this kernel. On a device the old one
# boots until all of the new one is on the disk; FAT has no links and gets a copy.
pkg_postinst:${KERNEL_PACKAGE_NAME}-set () {
    # A distribution whose boot loader finds kernels by itself wants no such name.
    if [ "${KERNEL_IMAGETYPE_SYMLINK}" = 0 ]; then exit 0; fi
    for type in ${KERNEL_IMAGETYPES}; do
        name=$D/${KERNEL_IMAGEDEST}/$type
        if [ ! -e "$name-${KERNEL_VERSION}" ]; then continue; fi
        rm -f "$name.new"
        ln -s "$type-${KERNEL_VERSION}" "$name.new" 2>/dev/null || cp "$name-${KERNEL_VERSION}" "$name.new"
        if [ -z "$D" ]; then sync; fi
        mv -f "$name.new" "$name"
        if [ -z "$D" ]; then sync; fi
    done
}

# OE-Core's image packages remove that name when any of them is removed: the device
# would boot nothing after an old kernel has gone.
python () {
    kernel = d.getVar('KERNEL_PACKAGE_NAME')
    for type in (d.getVar('KERNEL_IMAGETYPES') or '').split():
        d.setVar('pkg_postrm:%s-image-%s' % (kernel, type.lower()), '''
name=/${KERNEL_IMAGEDEST}/%s
if [ -L "$name" ] && [ ! -e "$name" ]; then rm -f "$name"; fi
''' % type)
}
