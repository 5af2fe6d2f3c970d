package cycle

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/flow"
)

// Status is where a series stands, for people and as JSON.
type Status struct {
	Distribution string          `json:"distribution"`
	Title        string          `json:"title"`
	Series       string          `json:"series"`
	Head         distro.Version  `json:"head,omitempty"`
	Serial       int             `json:"serial"`
	Releases     []ReleaseStatus `json:"releases"`     // newest first
	Builds       []BuildStatus   `json:"builds"`       // newest first
	Next         string          `json:"next"`         // the command that goes on
	NextVersion  distro.Version  `json:"next_version"` // of the next build
}

// ReleaseStatus is one release.
type ReleaseStatus struct {
	Version   distro.Version `json:"version"`
	Status    distro.Status  `json:"status"`
	Build     string         `json:"build"` // the candidate that it was
	Serial    int            `json:"serial"`
	Packages  int            `json:"packages"`
	New       int            `json:"new"`
	By        string         `json:"by"`
	Because   string         `json:"because,omitempty"` // of the approval, or of the withdrawal
	Approved  time.Time      `json:"approved"`
	Published time.Time      `json:"published,omitzero"`
}

// BuildStatus is one build or candidate, with why it stands where it does.
type BuildStatus struct {
	ID        distro.BuildID `json:"id"`
	Candidate string         `json:"candidate,omitempty"`
	Version   distro.Version `json:"version"`
	Base      distro.Version `json:"base,omitempty"`
	Status    distro.Status  `json:"status"` // of the candidate when it is one
	Revision  distro.Digest  `json:"revision"`
	Created   time.Time      `json:"created"`
	Step      string         `json:"step,omitempty"` // the step of a running or lost build
	Why       string         `json:"why,omitempty"`
}

// Status tells where everything stands. It takes no lock.
func (w *Workspace) Status(ctx context.Context) (Status, error) {
	d := w.Definition
	out := Status{Distribution: d.Distribution, Title: d.Title, Series: d.Series.Name, Releases: []ReleaseStatus{}, Builds: []BuildStatus{}}
	s, err := w.series(ctx)
	if err != nil {
		return out, err
	}
	out.Head, out.Serial = s.Head, s.Serial
	releases, err := w.Releases(ctx)
	if err != nil {
		return out, err
	}
	for i := len(releases) - 1; i >= 0; i-- {
		r := releases[i]
		st := r.Status
		if st == distro.Published && r.Version != s.Head {
			st = distro.Superseded
		}
		because := r.Approval.Because
		if r.Withdrawal != nil {
			because = r.Withdrawal.Because
		}
		id, _ := distro.ParseBuildID(string(r.Build))
		out.Releases = append(out.Releases, ReleaseStatus{Version: r.Version, Status: st, Build: id.Candidate(), Serial: r.Serial, Packages: len(r.Packages),
			New: len(fresh(r.Packages)), By: r.Approval.By, Because: because, Approved: r.Approval.At, Published: r.Published})
		if r.Status == distro.Publishing {
			out.Next = "slipway publish " + string(r.Version)
		}
	}
	if c, ok, err := w.unfinished(ctx); err != nil {
		return out, err
	} else if ok {
		out.Next = c.again()
	}
	builds, err := w.Builds(ctx)
	if err != nil {
		return out, err
	}
	for i := len(builds) - 1; i >= 0; i-- {
		b := builds[i]
		bs, next, err := w.describe(ctx, b)
		if err != nil {
			return out, err
		}
		out.Builds = append(out.Builds, bs)
		if out.Next == "" {
			out.Next = next
		}
	}
	if out.Next == "" {
		out.Next = w.buildCommand("")
	}
	out.NextVersion, err = w.nextVersion(ctx, s, "")
	return out, err
}

// describe says where a build stands, why, and what command goes on.
func (w *Workspace) describe(ctx context.Context, b Build) (BuildStatus, string, error) {
	bs := BuildStatus{ID: b.ID, Version: b.Version, Base: b.Base, Status: w.buildStatus(ctx, b), Revision: b.RevisionID, Created: b.Created}
	next := ""
	switch bs.Status {
	case distro.Running, distro.Lost:
		rec, err := journal{w.State}.Load(ctx, "build/"+string(b.ID))
		if err != nil && !errs.Is(err, errs.NotFound) {
			return bs, "", err
		}
		for _, s := range rec.Steps {
			if s.Status != flow.Done {
				bs.Step = s.Name
			}
		}
		if bs.Status == distro.Running {
			next = "slipway log " + string(b.ID) + ", while it runs"
		}
		if bs.Status == distro.Lost {
			bs.Why = "its process is gone"
			if bs.Step != "" {
				bs.Why += "; it was in step " + bs.Step
			}
			bs.Why += "; " + w.buildCommand("") + " goes on there"
			next = w.buildCommand(b.Version)
		}
	case distro.BuildFail:
		if b.Failure != nil {
			bs.Why, _, _ = strings.Cut(b.Failure.Text, "\n")
		}
	case distro.Candidate:
		bs.Candidate = b.ID.Candidate()
		st, err := w.candidateStatus(ctx, b)
		if err != nil {
			return bs, "", err
		}
		c := b.Candidate
		if st == distro.Ready && w.Judge(b).Status == distro.Blocked {
			st = distro.Blocked // a waiver has expired, or the policy is stricter now
		}
		bs.Status = st
		switch st {
		case distro.Testing:
			bs.Why, next = "not tested yet", "slipway test "+bs.Candidate
		case distro.Ready:
			next = "slipway approve " + bs.Candidate + " --by NAME"
		case distro.Blocked:
			var keys []string
			for _, r := range w.Judge(b).Reasons {
				if r.Decides {
					keys = append(keys, r.Finding.Key())
				}
			}
			bs.Why, next = strings.Join(keys, ", "), "slipway check "+bs.Candidate
		case distro.Stale:
			bs.Why = "built on " + orNone(b.Base) + "; another release came first"
		case distro.Rejected:
			if c.Rejection != nil {
				bs.Why = c.Rejection.Because
			}
		case distro.Approved:
			bs.Why = "by " + c.Approval.By
			// Between the two writes of an approval the release is not there yet.
			if _, err := w.Release(ctx, b.Version); errs.Is(err, errs.NotFound) {
				next = fmt.Sprintf("slipway approve %s --by %q", bs.Candidate, c.Approval.By)
			}
		}
	}
	return bs, next, nil
}

// buildCommand is what builds, for a version when one is named.
func (w *Workspace) buildCommand(v distro.Version) string {
	s := "slipway build"
	if w.Definition.Builder.Kind == config.Import {
		s += " --import DIR"
	}
	if v != "" {
		s += " --for " + string(v)
	}
	return s
}

// buildStatus derives lost: running, but its process or its lease is gone.
func (w *Workspace) buildStatus(ctx context.Context, b Build) distro.Status {
	if b.Status != distro.Running {
		return b.Status
	}
	rec, err := journal{w.State}.Load(ctx, "build/"+string(b.ID))
	if err != nil || !flow.Alive(rec.Owner, rec.Heartbeat, w.Clock()) {
		return distro.Lost
	}
	return distro.Running
}
