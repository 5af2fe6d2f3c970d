package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"slipway/internal/errs"
	"slipway/internal/store"
)

// object is an open file: its first bytes, and the rest on demand. A file that is
// replaced while it is open is errs.Conflict, unless all of it came with the first
// request, as with every pointer.
type object struct {
	b    *Bucket
	ctx  context.Context // of Open: io.Reader has none
	name string
	etag *string
	size int64
	head []byte // the first bytes, at most inMemory

	pos  int64
	body io.ReadCloser // sequential reading from pos on, or nil
}

// open reads the beginning of a file. what names it in messages.
func (b *Bucket) open(ctx context.Context, name, what string) (store.Blob, error) {
	o := &object{b: b, ctx: ctx, name: name}
	err := b.retry(ctx, func() error {
		out, err := b.get(ctx, name, 0, inMemory, nil)
		if status(err) == http.StatusRequestedRangeNotSatisfiable { // an empty file has no first byte
			o.head, o.size = nil, 0
			return nil
		}
		if err != nil {
			return err
		}
		defer out.Body.Close()
		if o.size, err = total(out); err != nil {
			return err
		}
		o.etag = out.ETag
		o.head = make([]byte, min(o.size, inMemory))
		_, err = io.ReadFull(out.Body, o.head)
		return err
	})
	if err != nil {
		return nil, b.readFault(err, name, what)
	}
	return o, nil
}

// total is the size of the whole file that an answer brings a part of.
func total(out *s3.GetObjectOutput) (int64, error) {
	if out.ContentRange == nil { // a store that sends all of it
		return aws.ToInt64(out.ContentLength), nil
	}
	_, n, _ := strings.Cut(*out.ContentRange, "/")
	size, err := strconv.ParseInt(n, 10, 64)
	if err != nil || size < 0 {
		return 0, errs.Ef(errs.Unavailable, "the store answers with the range %q", *out.ContentRange)
	}
	return size, nil
}

// get asks for n bytes from off on.
func (b *Bucket) get(ctx context.Context, name string, off, n int64, etag *string) (*s3.GetObjectOutput, error) {
	return b.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &b.at.Bucket, Key: aws.String(b.at.key(name)), Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1)), IfMatch: etag,
	})
}

// retry repeats f while its body breaks off; errors that the store answered with
// have been retried by the client.
func (b *Bucket) retry(ctx context.Context, f func() error) error {
	pause := min(100*time.Millisecond, b.o.Pause)
	for try := 1; ; try++ {
		err := f()
		if err == nil || ctx.Err() != nil || code(err) != "" || status(err) != 0 || errs.KindOf(err) != errs.Internal || try >= b.o.Attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, b.o.Pause)
	}
}

func (b *Bucket) readFault(err error, name, what string) error {
	switch {
	case absent(err):
		return errs.E(errs.NotFound, "no "+what+" in "+b.at.String())
	case status(err) == http.StatusPreconditionFailed:
		return errs.E(errs.Conflict, fmt.Sprintf("%s in %s was replaced while it was read", name, b.at), errs.Hint("run the same command again"))
	}
	return b.fault(err, "read", name)
}

func (o *object) Size() int64 { return o.size }

func (o *object) Close() error {
	if o.body != nil {
		o.body.Close()
		o.body = nil
	}
	return nil
}

func (o *object) Read(p []byte) (int, error) {
	if err := context.Cause(o.ctx); err != nil {
		return 0, err
	}
	if o.pos >= o.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if o.pos < int64(len(o.head)) {
		n := copy(p, o.head[o.pos:])
		o.pos += int64(n)
		return n, nil
	}
	var n int
	err := o.b.retry(o.ctx, func() error {
		if o.body == nil {
			out, err := o.b.get(o.ctx, o.name, o.pos, o.size-o.pos, o.etag)
			if err != nil {
				return err
			}
			o.body = out.Body
		}
		var err error
		if n, err = o.body.Read(p[:min(int64(len(p)), o.size-o.pos)]); n > 0 {
			return nil
		}
		o.Close()
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err != nil {
		return 0, o.b.readFault(err, o.name, "file "+o.name)
	}
	o.pos += int64(n)
	return n, nil
}

func (o *object) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errs.Ef(errs.Invalid, "read %s at %d", o.name, off)
	}
	if off >= o.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), o.size-off)]
	n := 0
	if off < int64(len(o.head)) {
		n = copy(want, o.head[off:])
	}
	if n < len(want) {
		err := o.b.retry(o.ctx, func() error {
			out, err := o.b.get(o.ctx, o.name, off+int64(n), int64(len(want)-n), o.etag)
			if err != nil {
				return err
			}
			defer out.Body.Close()
			m, err := io.ReadFull(out.Body, want[n:])
			n += m
			return err
		})
		if err != nil {
			return n, o.b.readFault(err, o.name, "file "+o.name)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// stat gives a file's size.
func (b *Bucket) stat(ctx context.Context, name, what string) (int64, error) {
	head, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.at.Bucket, Key: aws.String(b.at.key(name))})
	if err != nil {
		return 0, b.readFault(err, name, what)
	}
	return aws.ToInt64(head.ContentLength), nil
}

// list yields the names that begin with prefix, sorted by bytes: stores list so.
func (b *Bucket) list(ctx context.Context, prefix string, yield func(string, error) bool) {
	base := b.at.key("")
	in := &s3.ListObjectsV2Input{Bucket: &b.at.Bucket, Prefix: aws.String(base + prefix)}
	last := ""
	for p := s3.NewListObjectsV2Paginator(b.client, in); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			yield("", b.fault(err, "list", prefix))
			return
		}
		for _, o := range page.Contents {
			name, ok := strings.CutPrefix(aws.ToString(o.Key), base)
			if !ok || store.CheckName(name) != nil {
				continue // not written by us; the probe
			}
			if name <= last {
				yield("", errs.E(errs.Refused, fmt.Sprintf("%s lists its files in no order: %q after %q", b.endpoint, name, last), errs.Hint("take another store, or a bucket of another kind")))
				return
			}
			if last = name; !yield(name, nil) {
				return
			}
		}
	}
}
