package s3_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/store"
	"slipway/internal/store/s3"
	"slipway/internal/store/s3/s3test"
	"slipway/internal/store/storetest"
)

var prefixes atomic.Int64

// options reach a server or a proxy, with short pauses.
func options(endpoint string) s3.Options {
	return s3.Options{Endpoint: endpoint, Region: s3test.Region, Getenv: s3test.Getenv, Attempts: 3, Pause: time.Millisecond}
}

// bucket opens an empty place of its own on a server.
func bucket(t *testing.T, s *s3test.Server) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(t.Context(), s3.Location{Bucket: s.Bucket, Prefix: fmt.Sprint("p", prefixes.Add(1), "/x")}, options(s.Endpoint))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestObjectStore is the suite that folders pass.
func TestObjectStore(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	t.Run("blobs", func(t *testing.T) {
		storetest.Blobs(t, func(t *testing.T) store.Blobs { return bucket(t, s).Blobs() })
	})
	t.Run("tree", func(t *testing.T) {
		storetest.Tree(t, func(t *testing.T) store.Tree { return bucket(t, s).Tree() })
	})
}
