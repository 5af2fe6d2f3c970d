package distro

// Seed is what a builder gets beside the revision: the reserved version, the
// checked-out layers and what the base release left. Folders are absolute paths
// on this machine and no part of the revision.
type Seed struct {
	Version Version `json:"version"` // reserved for this build
	Build   BuildID `json:"build"`
	Title   string  `json:"title"` // of the distribution
	// Boards are the machines of the definition, in its order.
	Boards []Board `json:"boards"`
	// Layers: name of the layer -> folder with its tree as checked out.
	Layers map[string]string `json:"layers"`
	// Sources is a folder with each SourcePin of the revision, named by its digest's hex digits.
	Sources string `json:"sources"`
	// FeedConfig is a folder with the generated feed configuration: <distribution>.repo, RPM-GPG-KEY-* and vars/*.
	FeedConfig string `json:"feed_config"`
	// Buildhistory is a folder with the base release's, "" for none (BitBake).
	Buildhistory string `json:"buildhistory,omitempty"`
	// Numbers is the base release's PR database, Packages its packages (digests of the signed files).
	Numbers  []NumberRow     `json:"numbers"`
	Packages []PackageRecord `json:"packages"`
}

// Output is one file that a builder leaves for collection.
type Output struct {
	Class Class
	Name  string // as in Artifact.Name
	Path  string // absolute; "" for a kept package, whose published file stays in use
	// Released: the file is one of the mirrors of what was released (sstate, downloads),
	// by the same name, and was not made by this build. Path is "".
	Released bool
	Package  *PackageRecord // for class packages
}

// Imported is what a build that another CI made says of itself.
type Imported struct {
	Packages         string // folder with the packages
	PRServ, HashServ string // files of the databases; "" is none
	BitBake, Host    string // versions, as the console names them
	Boards           []Board
	Layers           []ImportedLayer
	// Elsewhere are packages that images hold and that the tree does not have.
	Elsewhere []ImagePackage
	// Missing names, in words, what the build did not hand over.
	Missing []string
}

// ImagePackage is a package as the manifest of one of BitBake's images names it.
type ImagePackage struct{ Image, Name, Arch, Version string }

// ImportedLayer is a layer as the build named it: by its folder.
type ImportedLayer struct {
	Name     string
	Commit   string // "" is not known
	Modified bool   // with changes that are in no commit
}
