package security

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// New gives the check.
func New() check.Check { return security{} }

type security struct{}

func (security) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "security", Level: distro.Block,
		Asks: "is every image's root file system safe: no password, no key, no right, no feed and no service that it should not have?",
		Cure: "see the rule in docs/image-check.md; try it by hand: slipway image check FILE"}
}

// question changes when what is asked of an image does: old answers are void then.
const question = "security, 1"

// Run examines every image that the candidate has as a disk.
func (security) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	if err := bed.ImagePolicy.Err(RuleIDs()); err != nil {
		return res, err
	}
	if len(bed.Images) == 0 {
		res.Note = "no image: the definition has no boards with images"
		return res, nil
	}
	var mu sync.Mutex
	notes := make([]string, len(bed.Images))
	done := 0
	err := bed.Each(ctx, len(bed.Images), func(ctx context.Context, n int) error {
		i := bed.Images[n]
		name := i.Board + "/" + i.Image
		m := manifest(bed, i)
		in := inputs(bed, i, m)
		if in != "" && bed.Answered != nil {
			if candidate, ok := bed.Answered(in); ok {
				notes[n] = fmt.Sprintf("%s: its very bytes were looked at for %s", name, candidate)
				return nil
			}
		}
		r, err := Examine(ctx, i.Path, Options{Policy: bed.ImagePolicy, Manifest: m, NoManifest: m == nil})
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		file, err := bed.Transcript(i.Board+"-"+i.Image+".json", string(text)+"\n")
		if err != nil {
			return err
		}
		notes[n] = fmt.Sprintf("%s: %d files", name, r.Files)
		if len(r.Notes) > 0 {
			notes[n] += " (" + strings.Join(r.Notes, "; ") + ")"
		}
		mu.Lock()
		defer mu.Unlock()
		res.Asked += r.Asked
		res.Evidence = append(res.Evidence, file)
		for _, f := range r.Findings {
			res.Findings = append(res.Findings, distro.Finding{ID: name + ":" + f.ID, Level: f.Level, Object: name, Boards: []string{i.Board}, Text: f.Text, Cure: f.Cure, Log: file.Log})
		}
		if in != "" && len(r.Findings) == 0 {
			res.Good = append(res.Good, in)
		}
		done++
		bed.Tell(done, len(bed.Images), name)
		return nil
	})
	res.Note = strings.Join(notes, "; ")
	return res, err
}

// manifest is what the build says of an image.
func manifest(bed *check.Bed, i check.BootImage) *Manifest {
	for _, c := range bed.Contents {
		if c.Board != i.Board || c.Image != i.Image {
			continue
		}
		m := &Manifest{From: "the build's list of packages", Version: string(bed.Version)}
		for _, p := range c.Packages {
			of := Package{Name: p.Name, EVR: p.EVR(), Arch: p.Arch, HeaderDigest: p.HeaderDigest}
			if bed.Recipes {
				// A manifest of OpenEmbedded knows no digests. A package that kept its published
				// file may stand in the image with the same content in another one.
				of.HeaderDigest = ""
			}
			if p.Release == "" {
				of.EVR, of.Version = "", p.Version
			}
			m.Packages = append(m.Packages, of)
		}
		return m
	}
	return nil
}

// inputs gives what decides the answer for an image; "" when its bytes are not known.
func inputs(bed *check.Bed, i check.BootImage, m *Manifest) distro.Digest {
	if i.Digest == "" {
		return ""
	}
	policy, err := json.Marshal(struct {
		Policy   Policy
		Manifest *Manifest
	}{bed.ImagePolicy, m})
	if err != nil {
		return ""
	}
	return distro.DigestOf(fmt.Appendf(nil, "%s\n%s\n%s", question, i.Digest, policy))
}
