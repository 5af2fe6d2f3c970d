package distro

// Revision is the exact inputs of a build. Its digest names it: paths, thread
// counts and download folders are no part of it, the base release is (its
// PR database decides versions too).
type Revision struct {
	Schema       int               `json:"schema"` // 1
	Distribution string            `json:"distribution"`
	Series       string            `json:"series"`
	Definition   Digest            `json:"definition"` // of slipway.yaml's bytes
	Layers       []LayerPin        `json:"layers"`     // in the definition's order
	Builder      BuilderPin        `json:"builder"`
	Sources      []SourcePin       `json:"sources,omitempty"` // what is not in a layer, by spec and name
	Conf         map[string]Digest `json:"conf,omitempty"`    // generated configuration: name -> digest (feed configuration, public keys)
	Base         Version           `json:"base,omitempty"`    // the last published release; "" for the first
	BaseDigest   Digest            `json:"base_digest,omitempty"`
}

// LayerPin is a layer as really checked out.
type LayerPin struct {
	Name   string `json:"name"`
	URL    string `json:"url,omitempty"` // "" for a local layer
	Path   string `json:"path"`          // within its repository, "." for the root
	Commit string `json:"commit"`        // full id
	Tree   string `json:"tree"`          // git's id of the tree at Path
	Dirty  Digest `json:"dirty,omitempty"`
}

// BuilderPin is the builder with its kind and the versions of the tools that
// decide its output.
type BuilderPin struct {
	Kind  string            `json:"kind"`
	Tools map[string]string `json:"tools"`
}

// SourcePin is a source that lies in no layer, with where it came from.
type SourcePin struct {
	Spec    string `json:"spec"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Origin  string `json:"origin"`
	Digest  Digest `json:"digest"`
	Size    int64  `json:"size"`
}

// Digest is the revision's name.
func (r Revision) Digest() Digest { return DigestOf(CanonicalJSON(r)) }

// NumberKey is what a number of the PR database is given for: one spec (recipe)
// in one version and package architecture.
type NumberKey struct {
	Source  string `json:"source"`
	Version string `json:"version"` // [epoch:]version
	Arch    string `json:"arch"`    // package architecture of the task: its scope
}

func (k NumberKey) String() string { return k.Source + "-" + k.Version + "." + k.Arch }

// NumberRow is one row of a release's PR database (class pr-database).
type NumberRow struct {
	NumberKey
	Number  int    `json:"number"`
	Content Digest `json:"content_digest"` // over all packages of the task, see TaskContent
	// Inputs is all that decided the packages but the number: with equal inputs a
	// builder may keep the packages without building them. "" is unknown.
	Inputs Digest `json:"inputs,omitempty"`
}

// TaskContent joins the content digests of all packages of one task, in order
// of their names, into the digest that decides whether a number is kept.
func TaskContent(packages map[string]Digest) Digest { return DigestOf(CanonicalJSON(packages)) }

// BuildEvent is what a builder tells while it works.
type BuildEvent struct {
	Type  string `json:"type"`            // "plan", "start", "done", "kept" (not built at all), "failed", "note"
	Task  string `json:"task,omitempty"`  // "libgreet.x86_64"
	Text  string `json:"text,omitempty"`  // for people
	Done  int    `json:"done,omitempty"`  // tasks finished
	Total int    `json:"total,omitempty"` // tasks of all
	Log   string `json:"log,omitempty"`   // path of the task's log
	// Running are the tasks at work with their ages, oldest first, when there are many.
	Running []string `json:"running,omitempty"`
}
