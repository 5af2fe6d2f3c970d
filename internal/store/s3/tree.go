package s3

import (
	"bytes"
	"context"
	"io"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
)

type tree struct{ b *Bucket }

// Tree gives the bucket as named files.
func (b *Bucket) Tree() store.Tree { return tree{b} }

func (t tree) Create(ctx context.Context, name string, r io.Reader) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	return t.b.create(ctx, name, r)
}

func (t tree) Swap(ctx context.Context, name string, data []byte) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	src, err := open(ctx, bytes.NewReader(data), "")
	if err != nil {
		return err
	}
	return t.b.fault(t.b.put(ctx, name, src, false), "switch", name)
}

func (t tree) Open(ctx context.Context, name string) (store.Blob, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	return t.b.open(ctx, name, "file "+name)
}

func (t tree) Stat(ctx context.Context, name string) (int64, error) {
	if err := store.CheckName(name); err != nil {
		return 0, err
	}
	return t.b.stat(ctx, name, "file "+name)
}

func (t tree) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { t.b.list(ctx, prefix, yield) }
}

// Sync has nothing to do: the store has answered.
func (t tree) Sync(ctx context.Context) error { return context.Cause(ctx) }

type blobs struct{ b *Bucket }

// Blobs gives the bucket as bytes by digest: sha256/ab/<64 digits>.
func (b *Bucket) Blobs() store.Blobs { return blobs{b} }

func blobName(d distro.Digest) (string, error) {
	if _, err := distro.ParseDigest(string(d)); err != nil {
		return "", err
	}
	h := d.Hex()
	return "sha256/" + h[:2] + "/" + h, nil
}

func (s blobs) Put(ctx context.Context, r io.Reader) (distro.Digest, int64, error) {
	src, err := open(ctx, r, s.b.o.Spool)
	if err != nil {
		return "", 0, err
	}
	defer src.close()
	d := distro.Digest("sha256:" + src.sum)
	name, err := blobName(d)
	if err != nil {
		return "", 0, err
	}
	size, err := s.b.stat(ctx, name, "blob "+string(d))
	if err != nil && !errs.Is(err, errs.NotFound) {
		return "", 0, err
	}
	// Another size is damage: the new bytes heal it.
	if err != nil || size != src.size {
		if err := s.b.put(ctx, name, src, false); err != nil && code(err) != "NoSuchUpload" {
			return "", 0, s.b.fault(err, "store", name)
		} else if err != nil { // in parts, and the answer to the last request was lost
			if done, serr := s.b.same(ctx, name, src); serr != nil || !done {
				return "", 0, s.b.fault(err, "store", name)
			}
		}
	}
	return d, src.size, nil
}

func (s blobs) Open(ctx context.Context, d distro.Digest) (store.Blob, error) {
	name, err := blobName(d)
	if err != nil {
		return nil, err
	}
	return s.b.open(ctx, name, "blob "+string(d))
}

func (s blobs) Stat(ctx context.Context, d distro.Digest) (int64, error) {
	name, err := blobName(d)
	if err != nil {
		return 0, err
	}
	return s.b.stat(ctx, name, "blob "+string(d))
}

func (s blobs) List(ctx context.Context) iter.Seq2[distro.Digest, error] {
	return func(yield func(distro.Digest, error) bool) {
		s.b.list(ctx, "sha256/", func(name string, err error) bool {
			if err != nil {
				return yield("", err)
			}
			d := distro.Digest("sha256:" + name[strings.LastIndexByte(name, '/')+1:])
			if want, err := blobName(d); err != nil || want != name {
				return true
			}
			return yield(d, nil)
		})
	}
}

func (s blobs) Delete(ctx context.Context, d distro.Digest) error {
	name, err := blobName(d)
	if err != nil {
		return err
	}
	_, err = s.b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.b.at.Bucket, Key: aws.String(s.b.at.key(name))})
	if err == nil || absent(err) {
		return nil
	}
	return s.b.fault(err, "delete", name)
}
