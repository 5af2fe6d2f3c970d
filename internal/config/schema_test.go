package config

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

const committed = "../../docs/slipway.schema.json"

func TestCommittedSchemaIsCurrent(t *testing.T) {
	t.Parallel()
	if *update {
		if err := os.WriteFile(committed, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(committed)
	if err != nil || !bytes.Equal(b, Schema()) {
		t.Errorf("%s is not current (%v): go test ./internal/config -run Schema -update", committed, err)
	}
}

// plainValue is YAML as an editor's validator sees it: dates are texts.
func plainValue(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return plainValue(n.Content[0])
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plainValue(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		l := []any{}
		for _, c := range n.Content {
			l = append(l, plainValue(c))
		}
		return l
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return n.Value == "true"
	case "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			return fmt.Sprint(err)
		}
		return v
	}
	return n.Value
}

func TestSchemaAgreesWithTheReader(t *testing.T) {
	t.Parallel()
	doc, err := validator.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource("slipway.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("slipway.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(data []byte) error {
		var n yaml.Node
		if err := yaml.Load(data, &n); err != nil {
			t.Fatal(err)
		}
		return schema.Validate(plainValue(&n))
	}
	for name, data := range good(t) {
		if err := validate(data); err != nil {
			t.Errorf("%s is valid, and the schema says: %v", name, err)
		}
	}
	for _, name := range []string{"unknown-keys", "unknown-nested", "wrong-types", "missing-required", "bad-dates", "bad-names", "builders",
		"layers-empty", "support", "publish", "feeds", "gate", "security", "series-number-unquoted", "not-a-mapping", "schema-2"} {
		if validate(readArchive(t, "testdata/definition/"+name+".txtar").input) == nil {
			t.Errorf("the schema accepts %s", name)
		}
	}
}
