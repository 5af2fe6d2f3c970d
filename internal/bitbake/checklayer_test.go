package bitbake

import (
	"errors"
	"slices"
	"testing"

	"slipway/internal/errs"
)

func TestParseCheckLayer(t *testing.T) {
	t.Parallel()
	failed, err := parseCheckLayer("INFO: test_readme (common.CommonCheckLayer.test_readme)\nINFO: FAIL: test_signatures (common.CommonCheckLayer.test_signatures)\nINFO: Ran 9 tests in 232.003s\nINFO: FAILED (failures=1, skipped=2)\n", errors.New("exit status 1"))
	if err != nil || !slices.Equal(failed, []string{"test_signatures failed"}) {
		t.Error(failed, err)
	}
	if failed, err := parseCheckLayer("INFO: Ran 9 tests in 232.003s\nINFO: \nINFO: OK (skipped=2)\n", nil); err != nil || len(failed) != 0 {
		t.Error(failed, err)
	}
	if _, err := parseCheckLayer("ERROR: No layers found\n", errors.New("exit status 1")); !errs.Is(err, errs.Failed) {
		t.Error(err)
	}
}
