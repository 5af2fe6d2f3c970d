package fork

import (
	"context"
	"errors"
)

// Burn notes every number that the databases in another file have given as given
// here, too: they were a build's that was never released.
func (b *Base) Burn(ctx context.Context, path string) error {
	other, err := Open(path)
	if err != nil {
		return err
	}
	rows, err := other.PR.Given(ctx)
	if err := errors.Join(err, other.Close()); err != nil {
		return err
	}
	return b.PR.Burn(ctx, rows)
}
