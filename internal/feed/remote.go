package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/store"
	"slipway/internal/timestamp"
)

// inMemory is the largest file of a remote tree that is held in memory, in bytes;
// a larger one lies in a temporary file while it is open.
const inMemory = 4 << 20

// Open gives a publication for reading: a folder, a file:// or an http(s)://
// address. Nothing is fetched yet.
func Open(place string) (store.Tree, error) {
	u, err := url.Parse(place)
	if err != nil || !strings.Contains(place, "://") {
		return store.ReadTree(place), nil
	}
	switch {
	case u.Scheme == "file" && (u.Host == "" || u.Host == "localhost"):
		return store.ReadTree(u.Path), nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "" && u.Fragment == "":
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.ResponseHeaderTimeout = time.Minute
		transport.DisableCompression = true // the bytes as they were published
		transport.MaxIdleConnsPerHost = 16
		return &webTree{base: u, client: &http.Client{Transport: transport, Timeout: time.Hour}}, nil
	}
	return nil, errs.E(errs.Invalid, fmt.Sprintf("%q is no place of a publication", place), errs.Hint("a folder, file:///DIR, http://HOST/PATH or https://HOST/PATH"))
}

// webTree reads a publication over HTTP. There are no listings on the web: List
// gives the statements and snapshots that at.json names, and nothing else.
type webTree struct {
	base   *url.URL
	client *http.Client
}

func (t *webTree) refuse() error {
	return errs.E(errs.Invalid, t.base.Redacted()+" is read over HTTP and cannot be written")
}
func (t *webTree) Create(context.Context, string, io.Reader) error { return t.refuse() }
func (t *webTree) Swap(context.Context, string, []byte) error      { return t.refuse() }
func (t *webTree) Sync(context.Context) error                      { return t.refuse() }

// Open fetches a whole file. What the network did is errs.Unavailable, after
// three attempts.
func (t *webTree) Open(ctx context.Context, name string) (store.Blob, error) {
	var b store.Blob
	return b, t.attempts(ctx, http.MethodGet, name, func(r *http.Response) (err error) {
		b, err = keepBody(r)
		return err
	})
}

func (t *webTree) Stat(ctx context.Context, name string) (int64, error) {
	var n int64
	return n, t.attempts(ctx, http.MethodHead, name, func(r *http.Response) error {
		if n = r.ContentLength; n < 0 {
			return errors.New("the server does not say how long it is")
		}
		return nil
	})
}

func (t *webTree) attempts(ctx context.Context, method, name string, use func(*http.Response) error) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	address := t.base.JoinPath(name)
	var last error
	for range 3 {
		req, err := http.NewRequestWithContext(ctx, method, address.String(), nil)
		if err != nil {
			return errs.E(errs.Invalid, address.Redacted(), err)
		}
		r, err := t.client.Do(req)
		if err == nil {
			switch {
			case r.StatusCode == http.StatusOK:
				err = use(r)
			case r.StatusCode == http.StatusNotFound || r.StatusCode == http.StatusGone:
				err = errs.E(errs.NotFound, fmt.Sprintf("%s: no such file", address.Redacted()))
			default:
				err = fmt.Errorf("the server answers %q", r.Status)
			}
			r.Body.Close()
			if err == nil || errs.Is(err, errs.NotFound) {
				return err
			}
		}
		if last = err; ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return errs.E(errs.Unavailable, "fetch "+address.Redacted(), last, errs.Hint("is the address right, and the server there? Nothing was decided: try again"))
}

// keepBody reads a body to its end.
func keepBody(r *http.Response) (store.Blob, error) {
	if r.ContentLength >= 0 && r.ContentLength <= inMemory {
		b, err := io.ReadAll(r.Body)
		return memoryBlob{bytes.NewReader(b)}, err
	}
	f, err := os.CreateTemp("", "slipway-fetch-")
	if err != nil {
		return nil, err
	}
	os.Remove(f.Name()) // it goes when it is closed, or the process ends
	n, err := io.Copy(f, r.Body)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return fileBlob{f, n}, nil
}

type memoryBlob struct{ *bytes.Reader }

func (memoryBlob) Close() error { return nil }

type fileBlob struct {
	*os.File
	size int64
}

func (b fileBlob) Size() int64 { return b.size }

func (t *webTree) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		series := []string{}
		if top, _, ok := strings.Cut(prefix, "/"); ok {
			series = append(series, top)
		} else {
			list, err := SeriesOf(ctx, t)
			if err != nil {
				yield("", err)
				return
			}
			series = list
		}
		var names []string
		for _, s := range series {
			l := Layout{s}
			b, err := ReadFile(ctx, t, l.AtJSON())
			if errs.Is(err, errs.NotFound) {
				continue
			}
			var at At
			if err == nil {
				at, err = timestamp.ParseAt(b)
			}
			if err != nil {
				yield("", err)
				return
			}
			for _, e := range at.Entries {
				names = append(names, l.Snapshot(e.Serial)+"/snapshot.json", l.Statement(e.Release))
			}
			if n := len(at.Entries); n > 0 {
				b, err := ReadFile(ctx, t, l.Snapshot(at.Entries[n-1].Serial)+"/snapshot.json")
				if err != nil && !errs.Is(err, errs.NotFound) {
					yield("", err)
					return
				}
				if newest, err := timestamp.ParseSnapshot(b); err == nil {
					for _, r := range newest.Removed {
						names = append(names, l.Removal(r.Serial))
					}
				}
			}
		}
		slices.Sort(names)
		for _, n := range slices.Compact(names) {
			if strings.HasPrefix(n, prefix) && !yield(n, nil) {
				return
			}
		}
	}
}

// SeriesOf gives the names of the series that distribution.json lists.
func SeriesOf(ctx context.Context, t store.Tree) ([]string, error) {
	b, err := ReadFile(ctx, t, "distribution.json")
	if errs.Is(err, errs.NotFound) {
		if doc, ok, err := readExported(ctx, t); ok || err != nil {
			return []string{doc.Series}, err
		}
		return nil, errs.E(errs.NotFound, "there is no distribution.json: this is no publication, or nothing is published yet", err,
			errs.Hint("name the folder or address that holds distribution.json"))
	}
	if err != nil {
		return nil, err
	}
	var d struct {
		Series []struct {
			Name string `json:"name"`
		} `json:"series"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, errs.E(errs.Invalid, "distribution.json cannot be read", err)
	}
	var out []string
	for _, s := range d.Series {
		out = append(out, s.Name)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
