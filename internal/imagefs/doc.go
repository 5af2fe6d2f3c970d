// Package imagefs reads disk images without mounting them, and knows the
// partition table that they carry. It needs no privilege and starts nothing.
//
//	img, err := imagefs.Open("light-qemux86-64.img")
//	defer img.Close()
//	conf, err := img.ReadFile("boot/slipway-boot.conf")
//	err = fs.WalkDir(img, ".", visit)
//
// [Open] takes an image with a GPT, of which the first partition with an ext4
// file system counts, or a bare ext4 file system. An [Image] is an io/fs.FS: names are
// "boot/vmlinuz", never "/boot/vmlinuz". Symbolic links are followed inside the
// image, absolute ones from its root; [Image.Lstat] and [Image.ReadLink] do not
// follow. FileInfo.Sys is an *[Inode], with owner, device number and all times.
//
// An ext image may be one that a guest left without unmounting: what its journal
// holds and the file system does not yet is read from the journal
// ([Image.Replayed]). The file itself is never written.
//
// Everything in an image is taken as made by a stranger: what it claims is
// checked before it is believed or allocated; checksums of superblock, inodes
// and GPT are compared; symbolic links, extent trees and folders that go in
// circles end in an error. A damaged, truncated or unknown image is errs.Invalid
// and the message says what was found; a name that is not there is
// errs.NotFound, and fs.ErrNotExist for errors.Is.
//
// [OpenContents] takes what else an image can be: every partition of a GPT or MBR,
// ext2, ext3, ext4, squashfs, FAT, tar archives, folders, compressed or not, and
// shows all their files in one pass:
//
//	c, err := imagefs.OpenContents(ctx, "core-image.wic.gz")
//	defer c.Close()
//	err = c.Parts[1].Walk(ctx, func(f *imagefs.File) error { ... })
//
// [Table] is the partition table, read by [ReadTable] and written by
// [Table.Write].
//
// Not read: inline data, encryption, meta_bg; each is refused by name. Of extended
// attributes security.capability alone. The formats: UEFI 2.10 chapter 5; the
// kernel's Documentation/filesystems/ext4 (ondisk) and ext2.rst; Microsoft's FAT32
// specification 1.03; archive/tar.
package imagefs
