SUMMARY = "An image of the fixture's packages, installed by the build host's dnf"
LICENSE = "MIT"
IMAGE_INSTALL = "packagegroup-fixture base-passwd"
IMAGE_FSTYPES = "tar.gz"
inherit image
ROOTFS_BOOTSTRAP_INSTALL = ""
KERNEL_DEPLOY_DEPEND = ""
# No SDK: nothing is built for its host.
TOOLCHAIN_HOST_TASK = ""
TOOLCHAIN_TARGET_TASK = ""
