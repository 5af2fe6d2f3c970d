package s3

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"slipway/internal/errs"
	"slipway/internal/store"
)

// Location is where in a store: a bucket and the prefix of all keys, without
// slashes at its ends; "" for the whole bucket.
type Location struct{ Bucket, Prefix string }

// ParseLocation reads s3://bucket or s3://bucket/prefix.
func ParseLocation(s string) (Location, error) {
	bad := func(why string) (Location, error) {
		return Location{}, errs.E(errs.Invalid, fmt.Sprintf("%q %s", s, why), errs.Hint("s3://bucket/prefix"))
	}
	rest, ok := strings.CutPrefix(s, "s3://")
	if !ok {
		return bad("is no place in an object store")
	}
	bucket, prefix, _ := strings.Cut(rest, "/")
	prefix = strings.TrimSuffix(prefix, "/")
	if bucket == "" || strings.ContainsAny(bucket, "@:?#% ") {
		return bad("names no bucket")
	}
	if prefix != "" && store.CheckName(prefix) != nil {
		return bad("has a prefix that is no file name")
	}
	return Location{bucket, prefix}, nil
}

func (l Location) String() string {
	if l.Prefix == "" {
		return "s3://" + l.Bucket
	}
	return "s3://" + l.Bucket + "/" + l.Prefix
}

// key gives the key of a name.
func (l Location) key(name string) string {
	if l.Prefix == "" {
		return name
	}
	return l.Prefix + "/" + name
}

// Options are how to reach a store.
type Options struct {
	Endpoint string // https://host[:port]; "" for Amazon's of the region
	Region   string // "" for AWS_REGION, AWS_DEFAULT_REGION, else us-east-1, which most other stores take
	// Getenv gives AWS_ACCESS_KEY_ID and the like; nil for os.Getenv.
	Getenv func(string) string
	// Attempts is how often a request is tried; 0 for 6. Pause is the longest
	// pause between two tries; 0 for 10 s. With the defaults a store that is down
	// is given up after about half a minute.
	Attempts int
	Pause    time.Duration
	// Spool is the folder for unfinished copies of what comes as a stream; "" for
	// the folder of temporary files. A kill leaves nothing in it.
	Spool string
	// Progress, when set, is told of every file that goes up, from several
	// goroutines: name, bytes sent and to send. Bytes of a part that is sent again
	// do not count twice. The last call for a file has sent == total.
	Progress func(name string, sent, total int64)
}

// Bucket is an open place in a store. It is safe for use by several goroutines.
type Bucket struct {
	client   *s3.Client
	at       Location
	region   string
	endpoint string
	o        Options

	parts partsProbe
}

// Read gives a place in a store for reading; nothing is asked of the store yet,
// and credentials are not looked for.
func Read(at Location, o Options) (*Bucket, error) {
	if o.Getenv == nil {
		o.Getenv = getenv
	}
	if o.Attempts == 0 {
		o.Attempts = 6
	}
	if o.Pause == 0 {
		o.Pause = 10 * time.Second
	}
	b := &Bucket{at: at, o: o, endpoint: "Amazon S3", region: o.Region}
	for _, r := range []string{o.Getenv("AWS_REGION"), o.Getenv("AWS_DEFAULT_REGION"), "us-east-1"} {
		if b.region == "" {
			b.region = r
		}
	}
	options := s3.Options{
		Region:      b.region,
		Credentials: credentials(o.Getenv),
		HTTPClient:  &http.Client{Transport: shared},
		Retryer: retry.NewStandard(func(r *retry.StandardOptions) {
			r.MaxAttempts, r.MaxBackoff = o.Attempts, o.Pause
			// The budget over all requests would end a long publish early.
			r.RateLimiter = noLimit{}
		}),
		// Other stores than Amazon's do not know its newer checksums. Bodies are
		// covered by the sha256 of the request's signature.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		// A clock that is wrong would also date releases wrongly: say so.
		DisableClockSkewCorrection: true,
	}
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return nil, errs.E(errs.Invalid, fmt.Sprintf("the endpoint %q is no address of an object store", o.Endpoint), errs.Hint("https://s3.example.org"))
		}
		b.endpoint = u.Host
		options.BaseEndpoint = aws.String(o.Endpoint)
		options.UsePathStyle = true // needs no wildcard names and certificates
	}
	b.client = s3.New(options)
	return b, nil
}

// Open gives a place in a store for writing. It asks the store whether it can be
// trusted with files that are written once (see probe.go). Errors: errs.Denied for
// credentials that the store does not take, errs.NotFound without the bucket,
// errs.Refused for a store that ignores conditions, errs.Unavailable for one that
// does not answer.
func Open(ctx context.Context, at Location, o Options) (*Bucket, error) {
	b, err := Read(at, o)
	if err != nil {
		return nil, err
	}
	return b, b.probe(ctx)
}

// Location says where the bucket is.
func (b *Bucket) Location() Location { return b.at }

// shared has deadlines for what can hang, none for a transfer: its context ends
// that.
var shared = &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
	ForceAttemptHTTP2:     true,
	TLSHandshakeTimeout:   10 * time.Second,
	ResponseHeaderTimeout: 2 * time.Minute,
	ExpectContinueTimeout: time.Second,
	MaxIdleConnsPerHost:   32,
	IdleConnTimeout:       90 * time.Second,
}

// noLimit lets every request have its own tries.
type noLimit struct{}

func (noLimit) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (noLimit) AddTokens(uint) error { return nil }
