package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"strings"
	"time"
)

// Handler serves the publication in the folder dir. The folder is opened for
// each request, so it may appear, or be replaced, while the server runs.
//
// It answers GET and HEAD (405 for others), with Range requests on immutable
// files. Folders other than "/", hidden names and links that lead out of dir
// are 404, as is all that is not there.
func Handler(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "a publication is read with GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			notFound(w, "there is no publication yet: slipway publish makes one")
			return
		}
		defer root.Close()
		if r.URL.Path == "/" {
			serveIndex(w, r, root.FS())
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if !fs.ValidPath(name) || hidden(name) {
			notFound(w, "not in this publication")
			return
		}
		serveFile(w, r, root, name)
	})
}

func notFound(w http.ResponseWriter, text string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, http.StatusNotFound)
}

// hidden reports names that are nobody's business: dot files, which unfinished
// writes (.tmp-*) are too. RFC 8615's .well-known is public.
func hidden(name string) bool {
	for i, part := range strings.Split(name, "/") {
		if strings.HasPrefix(part, ".") && (i != 0 || part != ".well-known") {
			return true
		}
	}
	return false
}

func serveFile(w http.ResponseWriter, r *http.Request, root *os.Root, name string) {
	// A name may be a fifo or a device: opening one could hang, so look first.
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		notFound(w, "not in this publication")
		return
	}
	f, err := root.Open(name)
	if err != nil {
		notFound(w, "not in this publication")
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", ContentType(name))
	if !Pointer(name) {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		http.ServeContent(w, r, name, info.ModTime(), f)
		return
	}
	// Pointers are small. Their time is no validator: two switches can fall into
	// one second, and a client must not be told that the old one is still good.
	b, err := io.ReadAll(f)
	if err != nil {
		http.Error(w, "cannot be read", http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(b)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
}

// Pointer reports whether the file of that name may change: distribution.json,
// timestamp.json, current.json, at.json, a log's checkpoint, the repomd.xml (and
// its .asc) of history and current, everything below keys, security and
// .well-known. All other files of a publication are written once.
func Pointer(name string) bool {
	switch top, _, _ := strings.Cut(name, "/"); top {
	case "keys", "security", ".well-known":
		return true
	}
	switch path.Base(name) {
	case "distribution.json", "timestamp.json", "current.json", "at.json", "checkpoint":
		return true
	case "repomd.xml", "repomd.xml.asc":
		return !strings.Contains(name, "/snapshots/")
	}
	return false
}

var contentTypes = map[string]string{
	".xml":  "application/xml",
	".zst":  "application/zstd",
	".gz":   "application/gzip",
	".rpm":  "application/x-rpm",
	".json": "application/json",
	".asc":  "application/pgp-signature",
	".sig":  "application/pgp-signature",
	".repo": "text/plain; charset=utf-8",
	".txt":  "text/plain; charset=utf-8",
	".log":  "text/plain; charset=utf-8",
	".html": "text/html; charset=utf-8",
}

// ContentType gives the media type of a file by its name: always the same, on
// every machine; application/octet-stream when unknown.
func ContentType(name string) string {
	if strings.HasPrefix(name, "keys/") && path.Ext(name) == ".asc" {
		return "application/pgp-keys"
	}
	if t, ok := contentTypes[strings.ToLower(path.Ext(name))]; ok {
		return t
	}
	return "application/octet-stream"
}

// textIndex reports whether the client would rather read text than HTML, as
// curl does.
func textIndex(r *http.Request) bool {
	for _, a := range strings.Split(r.Header.Get("Accept"), ",") {
		if t, _, err := mime.ParseMediaType(a); err == nil && t == "text/html" {
			return false
		}
	}
	return true
}
