package security

import (
	"net/url"

	"slipway/internal/distro"
)

// SARIF gives a report as OASIS SARIF 2.1.0, which code hosts and editors show.
// Places are files in the image; what belongs to no file is at the image itself.
// version is Slipway's.
func (r *Report) SARIF(version string) any {
	type text struct {
		Text string `json:"text"`
	}
	type rule struct {
		ID                   string            `json:"id"`
		ShortDescription     text              `json:"shortDescription"`
		Help                 text              `json:"help"`
		DefaultConfiguration map[string]string `json:"defaultConfiguration"`
	}
	type object = map[string]any
	levels := map[distro.Level]string{distro.Block: "error", distro.Warn: "warning", distro.Info: "note"}
	rules := make([]rule, len(Rules))
	index := map[string]int{}
	for i, x := range Rules {
		index[x.ID] = i
		rules[i] = rule{x.ID, text{x.Asks}, text{x.Cure}, map[string]string{"level": levels[x.Level]}}
	}
	image := (&url.URL{Path: r.File}).EscapedPath()
	results := []object{}
	for _, f := range r.Findings {
		where := object{"artifactLocation": object{"uri": image}}
		if f.Path != "" && f.Path != "." {
			where["artifactLocation"] = object{"uri": (&url.URL{Path: f.Path}).EscapedPath(), "uriBaseId": "IMAGE"}
			if f.Line > 0 {
				where["region"] = object{"startLine": f.Line}
			}
		}
		results = append(results, object{"ruleId": f.Rule, "ruleIndex": index[f.Rule], "level": levels[f.Level], "message": text{f.Text},
			"locations": []object{{"physicalLocation": where}}, "partialFingerprints": object{"slipway/v1": f.ID}})
	}
	notes := []object{}
	for _, n := range r.Notes {
		notes = append(notes, object{"level": "note", "message": text{n}})
	}
	return object{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": []object{{
		"tool":               object{"driver": object{"name": "slipway", "version": version, "rules": rules}},
		"originalUriBaseIds": object{"IMAGE": object{"description": text{"the root of " + r.File}}},
		"invocations":        []object{{"executionSuccessful": true, "toolExecutionNotifications": notes}},
		"results":            results,
		"columnKind":         "unicodeCodePoints",
		"automationDetails":  object{"id": "slipway image check/" + r.File},
		"artifacts":          []object{{"location": object{"uri": image}, "length": r.Size}},
	}}}
}
