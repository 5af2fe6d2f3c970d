// Package compose makes images from an installed root file system: a folder
// that internal/dnf filled with packages.
//
//	err := compose.Clean(ctx, root.Path(), date)       // what two installs differ in, away
//	err = compose.Disk(ctx, root.Path(), "light.img", compose.DiskOptions{Size: 96 << 20, Seed: revision, Date: date, Arch: "x86_64"})
//	err = compose.OCI(ctx, root.Path(), "light.oci.tar", compose.OCIOptions{Date: date, Arch: "x86_64"})
//	m, err := compose.Describe(ctx, root.Path(), "light.img", compose.Manifest{Image: "light", Board: "qemux86-64"})
//
// What it promises:
//
//   - The same packages, date and options give the same bytes, whenever and in
//     whichever folder they were installed, and by whichever key the packages were
//     signed. docs/format/images.md says what differs between two installs and
//     what becomes of it.
//   - An image appears under its name complete and synced, or not at all.
//     Remainders of a crash are called <name>.tmp-* and may be deleted.
//   - Files belong to who the packages say when run as root. An ordinary user works through
//     user namespaces (unshare -r), as internal/dnf does: there all files of the
//     root are the user's, and belong to 0 in the image.
//
// It starts mke2fs and debugfs (Debian: e2fsprogs) and rpmdb (rpm); OCI archives
// and partition tables it writes itself. A missing program is errs.Unavailable
// and names the Debian package.
package compose
