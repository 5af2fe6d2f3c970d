// Package config reads the two documents that people write for Slipway:
//
//   - slipway.yaml, the definition of a series ([Definition]): reviewed, in git,
//     part of a build's revision;
//   - settings.yaml, the installation ([Settings]): where things lie on this
//     machine; every key has a default and the file need not be there.
//
// Both are strict: unknown keys, duplicates, wrong types and values that cannot
// work are refused, all of them at once, as an errs.List of Invalid errors with
// file:line:col, the source line and, where there is one, the near name.
// [FormatFindings] prints them. YAML aliases, merge keys, tags and further
// documents are refused too, so that each value stands where it is written.
//
// The structs are the only description of the formats: their tags say what is
// required, the defaults, the choices and (tag rule) the form of a text; the
// reader, [Schema] and [Definition.Show] all follow them. What needs more than
// one value to judge is in check.go.
//
// docs/slipway-yaml.md describes the keys for users. The YAML library is used
// in parse.go and decode.go only.
//
// A layer's boards/*.yaml ([BoardFile]) and images/*.yaml ([ImageFile]), and a
// distribution's advisories/*.yaml ([AdvisoryFile]), are read by the same rules.
package config
