package cycle

import (
	"strings"
	"testing"

	"slipway/internal/config"
	"slipway/internal/errs"
)

// A package that wants another board's kernel: dnf names it, the cycle names image
// and board, and what such a board can have.
func TestImageWithAnotherBoardsKernel(t *testing.T) {
	t.Parallel()
	i := Image{Board: Board{Board: config.Board{Name: "qemux86-64"}, File: &config.BoardFile{Arch: "x86_64"}}, File: &config.ImageFile{Name: "light"}}
	for said, hint := range map[string]string{
		"No match for argument: kernel-image-6.1.0-56-cloud-arm64":                                                                   "board qemux86-64 has packages of noarch, x86_64, qemux86_64",
		"Problem: conflicting requests\n  - nothing provides kernel-set-arm64 needed by radio-driver-1-1.noarch from halyard-noarch": "images/light.yaml",
		"the package is not signed": "",
	} {
		err := notInstalled(errs.E(errs.Denied, said), i)
		if !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "install image light of board qemux86-64: ") || !strings.Contains(err.Error(), said) {
			t.Error(err)
		}
		hints := strings.Join(errs.Hints(err), "\n")
		if hint == "" && hints != "" || !strings.Contains(hints, hint) {
			t.Errorf("%s: %q", said, hints)
		}
	}
}
