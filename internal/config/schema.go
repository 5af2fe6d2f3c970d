package config

import (
	"encoding/json"
	"reflect"

	"github.com/invopop/jsonschema"

	"slipway/internal/distro"
)

// Schema gives the JSON schema (draft 2020-12) of slipway.yaml, for editors. It
// says what the structs' tags say; what [ParseDefinition] judges beyond them
// (dates out of order, duplicates, ...) it does not say. It is committed as
// docs/slipway.schema.json.
func Schema() []byte {
	r := jsonschema.Reflector{Anonymous: true, DoNotReference: true, ExpandedStruct: true, RequiredFromJSONSchemaTags: true}
	s := r.Reflect(&Definition{})
	s.Title = "slipway.yaml, the definition of a series"
	extend(s, reflect.TypeFor[Definition]())
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("config.Schema: " + err.Error()) // the structs are ours
	}
	return append(b, '\n')
}

// extend adds what the library does not know: our rules, and that an optional
// text may be null.
func extend(s *jsonschema.Schema, t reflect.Type) {
	for _, f := range fields(t) {
		p, _ := s.Properties.Get(f.name)
		ft := t.Field(f.index).Type
		item := p
		if ft.Kind() == reflect.Slice {
			item, ft = p.Items, ft.Elem()
		}
		switch ft.Kind() {
		case reflect.Struct:
			extend(item, ft)
		case reflect.Map:
			item.AdditionalProperties = &jsonschema.Schema{Type: "string", Enum: []any{"block", "warn", "info", "off"}}
			if ft.Elem().Kind() == reflect.Slice {
				item.AdditionalProperties = &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{Type: "string", MinLength: new(uint64(1))}}
			}
			item.PropertyNames = &jsonschema.Schema{Pattern: rules["check"].pattern.String()}
		case reflect.String:
			if r, ok := rules[f.rule]; ok {
				item.Pattern = r.pattern.String()
			}
			if ft == reflect.TypeOf(defaultPublic[0]) {
				item.Enum = classes()
			}
			if item == p && !f.required && !f.hasDef {
				pattern := p.Pattern
				p.Type, p.Pattern = "", ""
				p.OneOf = []*jsonschema.Schema{{Type: "string", Pattern: pattern}, {Type: "null"}}
			}
		}
	}
}

func classes() []any {
	out := make([]any, len(distro.Classes))
	for i, c := range distro.Classes {
		out[i] = c
	}
	return out
}
