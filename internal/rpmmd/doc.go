// Package rpmmd writes and reads the metadata of an rpm-md repository: the
// folder repodata/ with repomd.xml and the files that it names, as dnf, zypper
// and createrepo_c know it.
//
// Writing: [Build] turns packages into all files of a repodata folder, in
// memory. Equal entries give equal bytes, whatever their order. Nothing is
// written to a disk here; the caller stores Repodata.Files first and
// Repodata.Repomd last, because only repomd.xml makes the others visible.
//
//	p, err := rpm.ReadFile("hello-1-1.noarch.rpm")
//	md, err := rpmmd.Build([]rpmmd.Entry{{Package: p, Href: "../../pool/rpm/noarch/1/hello-1-1.noarch.rpm"}}, rpmmd.Options{Revision: "17", Timestamp: 1700000000})
//
// [Update] is the writer for what grows: it makes the next index from the last
// one ([State]) and reads only packages that are new. The data files are
// concatenated zstd frames (or gzip members) of some 48 packages each; a frame
// whose packages are the same is copied, by the kernel where it can. The bytes
// are those that Build would give for the same list. Update.Do takes the list of
// all packages, Update.Change what comes and goes.
//
// Reading: [ReadRepo] opens a repository by name, checks every checksum and size
// and parses everything; [ReadRepomd], [ReadPrimary], [ReadFilelists] and
// [ReadOther] read one file each. All of them take bytes from strangers: they
// are bounded, never panic, and say where a file is wrong.
//
// The rules of which dependency and which file stands where are those of
// createrepo_c 1.2.4 (the version that Yocto ships); rules.go lists them.
// docs/format/repository-metadata.md describes the files.
package rpmmd
