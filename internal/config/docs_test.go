package config

import (
	"os"
	"regexp"
	"testing"
)

var block = regexp.MustCompile("(?s)```yaml( settings)?\n(.*?)```")

func TestTheExamplesOfTheDocsAreValid(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/slipway-yaml.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := block.FindAllSubmatch(data, -1)
	if len(blocks) != 3 {
		t.Errorf("%d blocks", len(blocks))
	}
	for _, b := range blocks {
		if len(b[1]) > 0 {
			_, err = parseSettings("settings.yaml", b[2], "/ws", func(string) string { return "/home/me" })
		} else {
			_, err = ParseDefinition("slipway.yaml", b[2])
		}
		if err != nil {
			t.Errorf("%s%s", b[2], findings(err))
		}
	}
}
