package s3

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"slipway/internal/errs"
)

// probeName is never listed, see store.CheckName. The file stays: removing it
// would let two writers that start at once see each other's first write fail.
const probeName = ".tmp-conditional-write"

const probeText = "slipway writes this file to see that it cannot be written twice.\n"

// probe asks whether the store keeps what exists from a conditional write: it
// writes the same file until it is told that the file is there, at most twice.
func (b *Bucket) probe(ctx context.Context) error {
	for range 2 {
		_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &b.at.Bucket, Key: aws.String(b.at.key(probeName)), Body: bytes.NewReader([]byte(probeText)), IfNoneMatch: aws.String("*"),
		})
		if refusedCondition(err) {
			return nil
		}
		if code(err) == "NotImplemented" {
			return b.unconditional(short(err))
		}
		if err != nil {
			return b.fault(err, "write to", probeName)
		}
	}
	return b.unconditional(nil)
}

func (b *Bucket) unconditional(cause error) error {
	return errs.E(errs.Refused, b.endpoint+" does not keep an existing file from a conditional write (If-None-Match: *): published files could be replaced", cause,
		errs.Hint("take a store that does (docs/object-storage.md), or publish into a folder and copy it"))
}

// partsProbe says whether files may go up in parts, and of which size.
type partsProbe struct {
	mu   sync.Mutex
	done bool
	unit int64 // of tests; 0 for partSize
}

func (p *partsProbe) from() int64 {
	if p.unit != 0 {
		return p.unit + 1
	}
	return partsFrom
}

// size of the parts of a file: all but the last are equal, which some stores want.
func (p *partsProbe) size(total int64) int64 {
	size := int64(partSize)
	if p.unit != 0 {
		size = p.unit
	}
	return max(size, (total+partsMost-1)/partsMost)
}

// probeParts asks, before the first file in parts, what probe asked for whole
// ones: a store may know conditions for one and not for the other.
func (b *Bucket) probeParts(ctx context.Context) error {
	b.parts.mu.Lock()
	defer b.parts.mu.Unlock()
	if b.parts.done {
		return nil
	}
	key := aws.String(b.at.key(probeName))
	up, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.at.Bucket, Key: key})
	if err != nil {
		return err
	}
	defer b.abort(ctx, key, up.UploadId)
	part, err := b.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &b.at.Bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: io.NewSectionReader(bytes.NewReader([]byte(probeText)), 0, int64(len(probeText))),
	})
	if err != nil {
		return err
	}
	_, err = b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.at.Bucket, Key: key, UploadId: up.UploadId, IfNoneMatch: aws.String("*"),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1)}}},
	})
	if refusedCondition(err) {
		b.parts.done = true
		return nil
	}
	if err == nil || code(err) == "NotImplemented" {
		return b.unconditional(nil)
	}
	return err
}
