package fork

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/prserv/prdb"
)

// Output is what a builder of Slipway's own made with one task: it does not talk
// to the servers, because it knows a number before, and an output after its work.
type Output struct {
	Recipe, Version, Arch string
	Number                int    // given by [prdb.DB.Reserve], or the base's
	Inputs                string // hash of all that went in, 64 hex digits; "" is unknown
	Content               string // hash of what came out, without the number
}

// Method is the name of the outputs' hashes in the hash equivalence database.
const Method = "slipway.TaskContent"

// PRVersion is how the PR database names a version of a recipe: as BitBake does,
// without its PR.
func PRVersion(recipe, version string) string { return recipe + "-" + version }

// Record notes outputs in the overlay in dir, as BitBake's reports would: the
// number of each content, and for inputs that are new the name of an output that
// is known. What the series has stays as it is. Both databases have all of it,
// or nothing after a crash; it may be repeated.
func (b *Base) Record(ctx context.Context, dir string, at time.Time, outputs []Output) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errs.Wrap(err, "make the folder of a fork")
	}
	var hashes []hashdb.Row
	var numbers []prdb.Row
	for _, o := range outputs {
		r := prdb.Row{Version: PRVersion(o.Recipe, o.Version), Pkgarch: o.Arch, Checksum: o.Content, Value: strconv.Itoa(o.Number)}
		if known, err := b.PR.Find(ctx, r.Version, r.Pkgarch, r.Checksum, false); err != nil {
			return err
		} else if known != r.Value {
			numbers = append(numbers, r)
		}
		if o.Inputs == "" {
			continue
		}
		unihash, err := b.Hash.Unihash(ctx, Method, o.Inputs)
		if err != nil {
			return err
		}
		if unihash != "" {
			continue
		}
		unihash = o.Inputs
		if same, err := b.Hash.ByOutput(ctx, Method, o.Content, true); err != nil {
			return err
		} else if same != nil {
			unihash = same.Unihash
		}
		hashes = append(hashes, hashdb.Row{Method: Method, Taskhash: o.Inputs, Outhash: o.Content, Unihash: unihash, Created: at,
			Extra: hashdb.Extra{PN: o.Recipe, PV: o.Version, PR: r.Value}})
	}
	x, err := Open(filepath.Join(dir, overlay))
	if err != nil {
		return err
	}
	return errors.Join(x.put(ctx, hashes, numbers), x.Close())
}

// SaveWith writes both databases as they would be with the overlay in dir to one
// new file, which [Open] opens: what a release keeps.
func (b *Base) SaveWith(ctx context.Context, dir, path string) (err error) {
	x, err := Open(filepath.Join(dir, overlay))
	if err != nil {
		return err
	}
	hashes, err := x.Hash.All(ctx)
	var numbers []prdb.Row
	if err == nil {
		numbers, err = x.PR.Own(ctx)
	}
	if err := errors.Join(err, x.Close()); err != nil {
		return err
	}
	if err := b.Save(path); err != nil {
		return err
	}
	to, err := Open(path)
	if err != nil {
		return err
	}
	return errors.Join(to.put(ctx, hashes, numbers), to.Close())
}
