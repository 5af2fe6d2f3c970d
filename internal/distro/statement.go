package distro

import "time"

// Statement is what is said, signed and for ever, of a release: the file
// releases/<version>/release.json of the publication.
type Statement struct {
	Schema       int             `json:"schema"` // 1
	Distribution string          `json:"distribution"`
	Series       string          `json:"series"`
	Version      Version         `json:"version"`
	Candidate    string          `json:"candidate"`
	Serial       int             `json:"serial"` // of the snapshot that the release made
	At           time.Time       `json:"at"`     // of the approval
	Revision     Revision        `json:"revision"`
	RevisionID   Digest          `json:"revision_digest"`
	Approval     Approval        `json:"approval"`
	Verdict      Verdict         `json:"verdict"`
	Checks       []CheckResult   `json:"checks"`
	Waivers      []Waiver        `json:"waivers,omitempty"`
	SignOffs     []SignOff       `json:"sign_offs,omitempty"` // who looked at what, by component
	Packages     []PackageRecord `json:"packages"`            // as published, signed
	Artifacts    []Artifact      `json:"artifacts"`           // every other artifact of the build; without a name when its class is not public
	// Withheld counts the packages, artifacts and sources that are not stated, as policy
	// excludes them. RevisionID is that of the whole revision.
	Withheld int `json:"withheld,omitempty"`
	// FilesRoot is the Merkle root over the files of the publication that this statement
	// answers for (docs/format/tlog.md): Packages, and Artifacts with a File.
	FilesRoot Digest `json:"files_root,omitempty"`
}
