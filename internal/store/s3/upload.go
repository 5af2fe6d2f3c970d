package s3

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"slipway/internal/errs"
	"slipway/internal/store"
)

const (
	partSize    = 16 << 20 // of a file that goes up in parts
	partsFrom   = 4 * partSize
	partsMost   = 10_000 // Amazon's limit
	partWorkers = 4
	sumKey      = "sha256" // of the metadata
)

// What caches between the store and its readers may do: files never change,
// pointers do.
const (
	forEver = "public, max-age=31536000, immutable"
	noCache = "no-cache"
)

// create stores r under a name, once: see store.Tree.Create.
func (b *Bucket) create(ctx context.Context, name string, r io.Reader) error {
	src, err := open(ctx, r, b.o.Spool)
	if err != nil {
		return err
	}
	defer src.close()
	// A small file is one request when it is new, and two when it is there; a
	// large one is worth asking first.
	if src.size > inMemory {
		if done, err := b.same(ctx, name, src); done || err != nil {
			return err
		}
	}
	// A store may answer 409 to all of several writers at once.
	for range 4 {
		if err = b.put(ctx, name, src, true); err == nil {
			return nil
		}
		if !refusedCondition(err) && code(err) != "NoSuchUpload" {
			return b.fault(err, "create", name)
		}
		if done, err := b.same(ctx, name, src); done || err != nil {
			return err
		}
	}
	return b.fault(err, "create", name)
}

// same compares a source with the file of that name, if there is one. Other
// content is errs.Conflict.
func (b *Bucket) same(ctx context.Context, name string, src *source) (bool, error) {
	head, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.at.Bucket, Key: aws.String(b.at.key(name))})
	if err != nil {
		if absent(err) {
			return false, nil
		}
		return false, b.fault(err, "look at", name)
	}
	equal := aws.ToInt64(head.ContentLength) == src.size
	if sum, ok := head.Metadata[sumKey]; ok && equal {
		equal = sum == src.sum
	} else if equal { // written by another program
		f, err := b.open(ctx, name, "file "+name)
		if err != nil {
			return false, err
		}
		defer f.Close()
		d, err := store.Hash(ctxReader{ctx, f})
		if err != nil {
			return false, errs.Wrap(err, "compare %s", name)
		}
		equal = d.Hex() == src.sum
	}
	if !equal {
		return false, errs.E(errs.Conflict, fmt.Sprintf("%s exists in %s with other content and is never replaced", name, b.at),
			errs.Hint("give the new content a new name (a new version or release number)"))
	}
	return true, nil
}

// put stores a source; once makes it a conditional write. The error is the
// client's: see refusedCondition and fault.
func (b *Bucket) put(ctx context.Context, name string, src *source, once bool) error {
	if src.size >= b.parts.from() {
		return b.putParts(ctx, name, src, once)
	}
	in := &s3.PutObjectInput{
		Bucket: &b.at.Bucket, Key: aws.String(b.at.key(name)), Body: io.NewSectionReader(src, 0, src.size), ContentLength: &src.size,
		Metadata: map[string]string{sumKey: src.sum}, CacheControl: aws.String(noCache),
	}
	if once {
		in.IfNoneMatch, in.CacheControl = aws.String("*"), aws.String(forEver)
	}
	_, err := b.client.PutObject(ctx, in)
	if err == nil && b.o.Progress != nil {
		b.o.Progress(name, src.size, src.size)
	}
	return err
}

// putParts stores a source in parts, several at once. It is visible when the store
// has been told that all are there.
func (b *Bucket) putParts(ctx context.Context, name string, src *source, once bool) (err error) {
	if err := b.probeParts(ctx); err != nil {
		return err
	}
	size := b.parts.size(src.size)
	key := aws.String(b.at.key(name))
	up, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.at.Bucket, Key: key, Metadata: map[string]string{sumKey: src.sum}, CacheControl: aws.String(forEver),
	})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			b.abort(ctx, key, up.UploadId)
		}
	}()
	parts := make([]types.CompletedPart, (src.size+size-1)/size)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var next int
	var sent int64
	for range partWorkers {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(parts) || ctx.Err() != nil {
					return
				}
				from := int64(i) * size
				n := min(size, src.size-from)
				number := aws.Int32(int32(i + 1))
				out, err := b.client.UploadPart(ctx, &s3.UploadPartInput{
					Bucket: &b.at.Bucket, Key: key, UploadId: up.UploadId, PartNumber: number, Body: io.NewSectionReader(src, from, n), ContentLength: &n,
				})
				if err != nil {
					cancel(err)
					return
				}
				parts[i] = types.CompletedPart{ETag: out.ETag, PartNumber: number}
				mu.Lock()
				sent += n
				if b.o.Progress != nil {
					b.o.Progress(name, sent, src.size)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	in := &s3.CompleteMultipartUploadInput{Bucket: &b.at.Bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}
	if once {
		in.IfNoneMatch = aws.String("*")
	}
	_, err = b.client.CompleteMultipartUpload(ctx, in)
	return err
}

// abort lets the store forget the parts; a lifecycle rule does it when this cannot.
func (b *Bucket) abort(ctx context.Context, key, upload *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.at.Bucket, Key: key, UploadId: upload})
}
