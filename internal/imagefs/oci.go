package imagefs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"slipway/internal/errs"
)

// An OCI archive is a tar of blobs, and its root file system a stack of layers,
// each a tar. Source: the OCI image format specification, "Image Layout", "Image
// Manifest" and "Filesystem Layer" (whiteouts).

// looksLikeOCI tells by the first files of a tar archive.
func looksLikeOCI(r io.ReaderAt, size int64) bool {
	t := tar.NewReader(io.NewSectionReader(r, 0, size))
	for range 4 {
		h, err := t.Next()
		if err != nil {
			return false
		}
		name := strings.TrimPrefix(path.Clean(h.Name), "./")
		if name == "oci-layout" || name == "index.json" || strings.HasPrefix(name, "blobs/sha256/") {
			return true
		}
	}
	return false
}

// span is where a file of the archive is.
type span struct{ offset, size int64 }

type ociArchive struct {
	r     io.ReaderAt
	files map[string]span
}

const (
	maxBlobs    = 100_000
	maxDocument = 8 << 20 // bytes of JSON
	maxLayers   = 1_000
	maxNesting  = 4
)

type ociDescriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// readOCI gives the layers of the one image that the archive holds, lowest first.
func readOCI(r io.ReaderAt, size int64) ([]func() (io.ReadCloser, error), error) {
	a := ociArchive{r: r, files: map[string]span{}}
	s := io.NewSectionReader(r, 0, size)
	t := tar.NewReader(s)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil || len(a.files) > maxBlobs {
			return nil, errs.E(errs.Invalid, "OCI archive: its tar is damaged or truncated", err)
		}
		at, err := s.Seek(0, io.SeekCurrent) // the reader of a tar reads no further than it has to
		if err != nil {
			return nil, err
		}
		a.files[path.Clean(h.Name)] = span{at, h.Size}
	}
	d, err := a.manifest("index.json", 0)
	if err != nil {
		return nil, err
	}
	var layers []func() (io.ReadCloser, error)
	if len(d) > maxLayers {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("OCI archive: %d layers", len(d)))
	}
	for _, l := range d {
		e, err := a.blob(l.Digest)
		if err != nil {
			return nil, err
		}
		blob := io.NewSectionReader(r, e.offset, e.size)
		how, err := compression(blob)
		if err != nil {
			return nil, err
		}
		layers = append(layers, func() (io.ReadCloser, error) {
			if how == "" {
				return io.NopCloser(io.NewSectionReader(r, e.offset, e.size)), nil
			}
			return decompress(blob, how)
		})
	}
	return layers, nil
}

// manifest reads an index or a manifest and gives the layers, through indexes of
// one entry.
func (a *ociArchive) manifest(name string, depth int) ([]ociDescriptor, error) {
	e, ok := a.files[name]
	if !ok {
		return nil, errs.E(errs.Invalid, "OCI archive: it has no "+name)
	}
	if e.size > maxDocument {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("OCI archive: %s has %d bytes", name, e.size))
	}
	text := make([]byte, e.size)
	if _, err := a.r.ReadAt(text, e.offset); err != nil {
		return nil, errs.E(errs.Invalid, "OCI archive: "+name, err)
	}
	if sum := sha256.Sum256(text); depth > 0 && !strings.HasSuffix(name, "/"+hex.EncodeToString(sum[:])) {
		return nil, errs.E(errs.Invalid, "OCI archive: "+name+" has another digest than its name says")
	}
	var doc struct {
		Manifests []ociDescriptor `json:"manifests"`
		Layers    []ociDescriptor `json:"layers"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, errs.E(errs.Invalid, "OCI archive: "+name, err)
	}
	switch {
	case len(doc.Layers) > 0:
		return doc.Layers, nil
	case len(doc.Manifests) != 1:
		return nil, errs.E(errs.Invalid, fmt.Sprintf("OCI archive: %s names %d images, not one", name, len(doc.Manifests)), errs.Hint("copy the one that is meant: skopeo copy --override-arch ARCH oci-archive:ALL oci-archive:ONE"))
	case depth == maxNesting:
		return nil, errs.E(errs.Invalid, "OCI archive: indexes within indexes")
	}
	digest, ok := strings.CutPrefix(doc.Manifests[0].Digest, "sha256:")
	if !ok {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("OCI archive: digest %q is no sha256", doc.Manifests[0].Digest))
	}
	return a.manifest("blobs/sha256/"+digest, depth+1)
}

func (a *ociArchive) blob(digest string) (span, error) {
	hash, ok := strings.CutPrefix(digest, "sha256:")
	e, there := a.files["blobs/sha256/"+hash]
	if !ok || !there {
		return span{}, errs.E(errs.Invalid, fmt.Sprintf("OCI archive: layer %q is not in it", digest))
	}
	return e, nil
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// walkLayers shows the files of a stack of layers: of each the highest, and none
// that a higher layer has taken away.
func walkLayers(layers []func() (io.ReadCloser, error)) func(context.Context, func(*File) error) error {
	if len(layers) == 1 {
		return walkTar(layers[0])
	}
	return func(ctx context.Context, visit func(*File) error) error {
		gone := map[string]bool{}   // by a whiteout, with all below
		sealed := map[string]bool{} // folders of which lower layers show nothing
		seen := map[string]bool{}
		hidden := func(name string) bool {
			if seen[name] {
				return true
			}
			for p := name; p != "."; p = path.Dir(p) {
				if gone[p] || sealed[path.Dir(p)] {
					return true
				}
			}
			return false
		}
		for i := len(layers) - 1; i >= 0; i-- {
			var nowSeen, nowGone, nowSealed []string // count for the layers below alone
			err := walkTar(layers[i])(ctx, func(f *File) error {
				dir, base := path.Split(f.Path)
				dir = path.Clean(dir)
				switch {
				case base == opaque:
					nowSealed = append(nowSealed, dir)
					return nil
				case strings.HasPrefix(base, whiteout):
					nowGone = append(nowGone, path.Join(dir, strings.TrimPrefix(base, whiteout)))
					return nil
				case hidden(f.Path):
					return nil
				}
				if !f.Mode.IsDir() {
					nowGone = append(nowGone, f.Path) // a folder of a lower layer is replaced with all in it
				}
				nowSeen = append(nowSeen, f.Path)
				return visit(f)
			})
			if err != nil {
				return err
			}
			for _, n := range nowSeen {
				seen[n] = true
			}
			for _, n := range nowGone {
				gone[n] = true
			}
			for _, n := range nowSealed {
				sealed[n] = true
			}
			if len(seen) > maxFiles {
				return errs.E(errs.Invalid, "OCI archive", errors.New("more files than can be"))
			}
		}
		return nil
	}
}

// firstName is the name of an archive's first file, by its header (ustar: 100 bytes,
// ended by NUL when shorter).
func firstName(head []byte) string {
	name, _, _ := bytes.Cut(head[:min(100, len(head))], []byte{0})
	return string(name)
}

// isOCIName tells a name that stands first in an OCI archive and in no file system.
func isOCIName(name string) bool {
	return name == "oci-layout" || name == "index.json" || strings.HasPrefix(name, "blobs/")
}

// isDockerArchive tells an archive of docker save that is no OCI archive, by its
// first file.
func isDockerArchive(head []byte) bool {
	name := firstName(head)
	return name == "manifest.json" || name == "repositories" || len(name) == 65 && name[64] == '/' || strings.HasSuffix(name, "/layer.tar")
}
