package cycle

import (
	"time"

	"slipway/internal/config"
	"slipway/internal/distro"
)

// Series is the document of a series.
type Series struct {
	Name   string         `json:"name"`
	Head   distro.Version `json:"head,omitempty"`   // the last published release
	Serial int            `json:"serial"`           // of the newest snapshot; 0 before the first
	First  distro.Version `json:"first,omitempty"`  // the first published release
	Builds map[string]int `json:"builds,omitempty"` // version -> builds that were started for it
}

// Build is one execution of a revision, and the candidate that it ended as.
type Build struct {
	ID       distro.BuildID  `json:"id"`
	Version  distro.Version  `json:"version"`
	Series   string          `json:"series"`
	Status   distro.Status   `json:"status"` // queued, running, candidate, failed; lost is derived
	Created  time.Time       `json:"created"`
	Ended    time.Time       `json:"ended,omitzero"`
	Base     distro.Version  `json:"base,omitempty"`
	Revision distro.Revision `json:"revision"`
	// RevisionID is the digest of Revision.
	RevisionID distro.Digest `json:"revision_digest"`

	Artifacts []distro.Artifact      `json:"artifacts,omitempty"`
	Packages  []distro.PackageRecord `json:"packages,omitempty"`
	Numbers   []distro.NumberRow     `json:"numbers,omitempty"` // the overlay of the PR database
	Public    *distro.PublicPolicy   `json:"public,omitempty"`  // what was to be published when it was collected
	Failure   *Failure               `json:"failure,omitempty"`

	// The candidate.
	Candidate Candidate `json:"candidate,omitzero"`
}

// policy gives the build's own policy; builds of older programs have today's.
func (b Build) policy(d *config.Definition) distro.PublicPolicy {
	if b.Public != nil {
		return *b.Public
	}
	return d.PublicPolicy()
}

// Candidate is what is known and decided of a build that succeeded.
type Candidate struct {
	Status    distro.Status        `json:"status,omitempty"`     // testing, ready, blocked, rejected, approved; stale is derived
	PublicKey []byte               `json:"public_key,omitempty"` // of the throw-away key
	Checks    []distro.CheckResult `json:"checks,omitempty"`
	Tested    time.Time            `json:"tested,omitzero"`
	Seed      uint64               `json:"seed,omitempty"` // that chose the releases to upgrade from at random
	Verdict   *distro.Verdict      `json:"verdict,omitempty"`
	Waivers   []distro.Waiver      `json:"waivers,omitempty"`
	SignOffs  []distro.SignOff     `json:"sign_offs,omitempty"` // by component
	Approval  *distro.Approval     `json:"approval,omitempty"`
	Rejection *distro.Approval     `json:"rejection,omitempty"`
}

// Failure says why a build failed.
type Failure struct {
	Text  string   `json:"text"`
	Hints []string `json:"hints,omitempty"`
	Step  string   `json:"step,omitempty"`
	// Tasks names the tasks that failed, each with its log (an artifact of class task-log).
	Tasks []string `json:"tasks,omitempty"`
	// Sources are the specs or recipes of Tasks, Paths where the layers have them.
	Sources []string `json:"sources,omitempty"`
	Paths   []string `json:"paths,omitempty"`
	// Commits that touch them since Since, newest first: "1a2b3c4d subject".
	Commits []string `json:"commits,omitempty"`
	// Since is the last build before that ended as a candidate: "1.2-c1", or the release
	// that it became; "" is none.
	Since string `json:"since,omitempty"`
}

// Release is an approved candidate.
type Release struct {
	Version    distro.Version         `json:"version"`
	Series     string                 `json:"series"`
	Build      distro.BuildID         `json:"build"`
	Status     distro.Status          `json:"status"` // publishing, published, withdrawn; superseded is derived from the head
	Base       distro.Version         `json:"base,omitempty"`
	Serial     int                    `json:"serial"`
	Approval   distro.Approval        `json:"approval"`
	Published  time.Time              `json:"published,omitzero"`
	Bridge     bool                   `json:"bridge,omitempty"`     // the metadata key signs its packages: [Workspace.Bridge]
	Withdrawal *distro.Approval       `json:"withdrawal,omitempty"` // who took it back, why and when
	Statement  distro.Digest          `json:"statement,omitempty"`  // of release.json
	Packages   []distro.PackageRecord `json:"packages"`             // signed, as published
	Internal   []distro.PackageRecord `json:"internal,omitempty"`   // not published, as built: for the next build and for images
	Numbers    []distro.NumberRow     `json:"numbers"`
}

// Kinds of documents.
const (
	kindSeries  = "series"
	kindBuild   = "build"
	kindRelease = "release"
	kindJournal = "journal"
	kindAnswers = "answers"
	kindChange  = "change" // by series and serial
	kindBoards  = "boards" // by build, and by series: the newest
	kindNumber  = "number" // of programs before the databases: see burnOld
	kindRebuild = "rebuild"
	kindBisect  = "bisect" // by series: the last search
)
