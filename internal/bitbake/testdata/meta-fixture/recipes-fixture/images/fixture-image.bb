SUMMARY = "An image of the fixture's packages, installed by the build host's dnf"
LICENSE = "MIT"
IMAGE_INSTALL = "packagegroup-fixture base-passwd"
IMAGE_FSTYPES = "tar.gz"
# The rpm database stays in the image; rpm and dnf are the build host's, and no packages.
IMAGE_FEATURES = "package-management"
ROOTFS_PKGMANAGE:forcevariable = ""
inherit image
ROOTFS_BOOTSTRAP_INSTALL = ""
KERNEL_DEPLOY_DEPEND = ""
# Of the SDK nothing is built for its host.
TOOLCHAIN_HOST_TASK = "nativesdk-fixture-tools"
TOOLCHAIN_TARGET_TASK = "hello-dev"
SDKIMAGE_FEATURES = ""
SDK_ARCHIVE_TYPE = "tar.zst"
