package config

import (
	"slices"
	"testing"
)

func TestOwners(t *testing.T) {
	t.Parallel()
	d := &Definition{Owners: []Owner{
		{Path: "**", People: []string{"All"}},
		{Path: "halyard/specs/lib*", People: []string{"Lib"}},
		{Path: "meta-*/recipes-*/**", People: []string{"Recipes"}},
		{Path: "halyard/specs/libknot", People: []string{"Knot", "Rope"}},
	}}
	for _, tt := range []struct {
		path string
		want []string
	}{
		{"halyard/specs/base-files", []string{"All"}}, {"halyard/specs/libc", []string{"Lib"}}, {"halyard/specs/libc/a/b.c", []string{"Lib"}},
		{"halyard/specs/libknot", []string{"Knot", "Rope"}}, {"meta-x/recipes-core/hello", []string{"Recipes"}}, {"meta-x/conf", []string{"All"}}, {"", nil},
	} {
		if got := d.OwnersOf(tt.path); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %v, want %v", tt.path, got, tt.want)
		}
	}
	if (&Definition{}).OwnersOf("a") != nil {
		t.Error("nobody is nobody")
	}
	for _, bad := range []string{"/a", "a/", "a//b", "[a"} {
		if (Owner{Path: bad}).sound() {
			t.Errorf("%q is sound", bad)
		}
	}
}
