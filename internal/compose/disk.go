package compose

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/imagefs"
)

// DiskOptions are what an image is beside its files.
type DiskOptions struct {
	Size  int64         // of the whole image, bytes; rounded up to 1 MiB
	Label string        // of file system and partition, at most 16 bytes; "" is "root"
	Seed  distro.Digest // every UUID and the seed of the folders' hashes come from it
	Date  time.Time     // all times of the file system but those of the files
	Arch  string        // package architecture: decides the type of the partition
}

const (
	blockSize = 4096
	mebibyte  = 1 << 20
)

// mkfsConf replaces the host's /etc/mke2fs.conf, which would decide the
// features by the distribution that the host has.
const mkfsConf = `[defaults]
	base_features = sparse_super,filetype,resize_inode,dir_index,ext_attr
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
[fs_types]
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
	}
	floppy = {
	}
	small = {
	}
	big = {
	}
	huge = {
	}
`

// Disk makes a disk image of a root: a GPT with one partition, from 1 MiB to
// 1 MiB before the end, with an ext4 file system. The file is sparse. Clean the
// root first, else the image tells of the installation.
//
// A size that is too small is errs.Invalid, with one that is enough; an unknown
// architecture or no seed too. A full disk is errs.Unavailable.
func Disk(ctx context.Context, root, out string, opts DiskOptions) error {
	if opts.Label == "" {
		opts.Label = "root"
	}
	opts.Size = (opts.Size + mebibyte - 1) / mebibyte * mebibyte
	if _, err := distro.ParseDigest(string(opts.Seed)); err != nil {
		return errs.Wrap(err, "seed of an image")
	}
	if opts.Date.Unix() <= 0 || len(opts.Label) > 16 {
		return errs.Ef(errs.Invalid, "an image needs a date, and a label of at most 16 bytes, not %q", opts.Label)
	}
	kind, ok := map[string]imagefs.GUID{"x86_64": imagefs.LinuxRootX8664, "aarch64": imagefs.LinuxRootARM64, "": imagefs.LinuxData}[opts.Arch]
	if !ok {
		kind = imagefs.LinuxData
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	need, err := measure(root)
	if err != nil {
		return err
	}
	return replace(out, func(f *os.File) error {
		if opts.Size < need.least() {
			return tooSmall(ctx, root, f, opts, need)
		}
		if err := opts.format(ctx, root, f, need); err != nil {
			if full(err) {
				return tooSmall(ctx, root, f, opts, need)
			}
			return err
		}
		if err := opts.settle(ctx, f); err != nil {
			return err
		}
		return imagefs.Table{Disk: opts.guid("disk"), Partitions: []imagefs.Partition{
			{Type: kind, ID: opts.guid("partition"), Name: opts.Label, Start: imagefs.TableSpace, Size: opts.Size - 2*imagefs.TableSpace}}}.Write(f, opts.Size)
	})
}

// guid derives an identifier: version 8 of RFC 9562, whose bits are the maker's.
func (o DiskOptions) guid(purpose string) imagefs.GUID {
	sum := sha256.Sum256([]byte("slipway image\x00" + string(o.Seed) + "\x00" + purpose))
	g := imagefs.GUID(sum[:16])
	g[6], g[8] = g[6]&0x0f|0x80, g[8]&0x3f|0x80
	return g
}

// needs is what the files of a root take at least.
type needs struct{ blocks, inodes int64 }

func measure(root string) (needs, error) {
	var n needs
	seen := map[[2]uint64]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 && !d.IsDir() {
			id := [2]uint64{st.Dev, st.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		n.inodes++
		switch {
		case d.IsDir():
			n.blocks++
		case d.Type().IsRegular() && fi.Sys().(*syscall.Stat_t).Blocks > 0:
			n.blocks += (fi.Size() + blockSize - 1) / blockSize
		}
		return nil
	})
	return n, err
}

// count is how many inodes the file system gets: those of its files and room for
// as many more as its size lets expect.
func (n needs) count(size int64) int64 { return max(size/16384, n.inodes*5/4+128) }

// least is a size of the image below which trying is in vain.
func (n needs) least() int64 {
	return 2*imagefs.TableSpace + 2*mebibyte // a file of zeros takes no blocks at all, so files do not count here
}

// format makes the file system, with its files, inside of the image.
func (o DiskOptions) format(ctx context.Context, root string, f *os.File, n needs) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := f.Truncate(o.Size); err != nil {
		return err
	}
	conf, err := os.CreateTemp("", "slipway-mke2fs-*.conf")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(conf.Name()) }()
	_, err = conf.WriteString(mkfsConf)
	if err = errors.Join(err, conf.Close()); err != nil {
		return err
	}
	size := o.Size - 2*imagefs.TableSpace
	_, err = command{mapped: true,
		env: []string{"MKE2FS_CONFIG=" + conf.Name(), o.fakeTime()},
		args: []string{"mke2fs", "-q", "-F", "-t", "ext4", "-b", fmt.Sprint(blockSize), "-I", "256", "-m", "1", "-U", o.guid("file system").String(), "-L", o.Label, "-N", fmt.Sprint(n.count(size)),
			"-E", fmt.Sprintf("offset=%d,hash_seed=%s,root_owner=0:0,nodiscard,lazy_itable_init=0,lazy_journal_init=0", imagefs.TableSpace, o.guid("hash")),
			"-d", root, f.Name(), fmt.Sprint(size / blockSize)},
	}.run(ctx)
	return err
}

func (o DiskOptions) fakeTime() string { return fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", o.Date.Unix()) }

// full reports that mke2fs found no room inside of the file system.
func full(err error) bool {
	if !errs.Is(err, errs.Failed) {
		return false
	}
	for _, s := range []string{"Could not allocate", "too small", "No free space", "not enough space", "too big", "too many inodes"} {
		if strings.Contains(strings.ToLower(err.Error()), strings.ToLower(s)) {
			return true
		}
	}
	return false
}

// tooSmall says which size is enough, found by trying: what a file system needs
// beside its files is mke2fs's affair.
func tooSmall(ctx context.Context, root string, f *os.File, opts DiskOptions, n needs) error {
	asked := opts.Size
	low := max(asked, n.least())
	high := low
	for opts.Size = low; ; {
		err := opts.format(ctx, root, f, n)
		if err == nil {
			high = opts.Size
			break
		}
		if !full(err) {
			return err
		}
		low = opts.Size
		opts.Size = max(opts.Size*5/4, (n.blocks*blockSize+n.inodes*256)+low/16)
		opts.Size = (opts.Size + mebibyte - 1) / mebibyte * mebibyte
		if opts.Size > 1<<44 {
			return err
		}
	}
	for high-low > max(mebibyte, high/50) {
		opts.Size = (low + high) / 2 / mebibyte * mebibyte
		err := opts.format(ctx, root, f, n)
		switch {
		case err == nil:
			high = opts.Size
		case full(err):
			low = opts.Size
		default:
			return err
		}
	}
	return errs.E(errs.Invalid, fmt.Sprintf("%d MiB are too small for the files of this image", asked/mebibyte),
		errs.Hintf("size: %dM is enough today; leave room for updates", (high+mebibyte-1)/mebibyte))
}

// settle gives the inodes the times that mke2fs takes from this machine: when a
// file was changed here and last read.
func (o DiskOptions) settle(ctx context.Context, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	// The table comes last: until then the file is no image, whatever happens.
	img, err := imagefs.New(section{f}, st.Size()-imagefs.TableSpace)
	if err != nil {
		return errs.Wrap(err, "read what mke2fs made")
	}
	inodes := map[uint32]bool{}
	err = fs.WalkDir(img, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		inodes[fi.Sys().(*imagefs.Inode).Number] = true
		return nil
	})
	if err != nil {
		return errs.Wrap(err, "read what mke2fs made")
	}
	list := make([]int, 0, len(inodes))
	for n := range inodes {
		list = append(list, int(n))
	}
	sort.Ints(list)
	script, err := os.CreateTemp("", "slipway-debugfs-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(script.Name()) }()
	var b bytes.Buffer
	for _, n := range list {
		for _, field := range []string{"atime", "ctime", "crtime"} {
			fmt.Fprintf(&b, "set_inode_field <%d> %s @%d\n", n, field, o.Date.Unix())
		}
	}
	_, err = script.Write(b.Bytes())
	if err = errors.Join(err, script.Close()); err != nil {
		return err
	}
	said, err := command{args: []string{"debugfs", "-w", "-f", script.Name(), fmt.Sprintf("%s?offset=%d", f.Name(), imagefs.TableSpace)}, env: []string{o.fakeTime()}}.run(ctx)
	if err != nil {
		return err
	}
	// It exits with 0 whatever went wrong. Its first line is its version.
	if _, more, _ := strings.Cut(said, "\n"); more != "" {
		if strings.Contains(more, "No space left on device") {
			return diskFull("debugfs: "+lastLine(more), nil)
		}
		return errs.E(errs.Failed, "debugfs: "+lastLine(more))
	}
	return nil
}

// section reads from where the partition will begin.
type section struct{ f *os.File }

func (s section) ReadAt(p []byte, off int64) (int, error) {
	return s.f.ReadAt(p, off+imagefs.TableSpace)
}
