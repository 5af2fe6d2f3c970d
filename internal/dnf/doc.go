// Package dnf runs the real dnf and rpm programs in install roots: folders that
// hold the root file system of a device that does not exist. It is the only
// package that starts dnf, and the only one that asks an rpm database.
//
//	tool, err := dnf.Find(ctx)
//	root, err := tool.NewRoot(ctx, dir, dnf.Options{Repos: repos, Vars: map[string]string{"slipway_snapshot": "current"}})
//	res, err := root.Install(ctx, "greet")
//	root.SetVars(map[string]string{"slipway_snapshot": "snapshots/1"})
//	res, err = root.DistroSync(ctx) // back to the packages of snapshot 1
//
// What it promises:
//
//   - Signatures are checked, of packages and of the metadata (gpgcheck=1 and
//     repo_gpgcheck=1 for every feed; a clone may take metadata from the cache that
//     its origin has verified). There is no way to turn that off. What dnf
//     refuses for the sake of a signature or of a digest is errs.Denied; what
//     fails otherwise is errs.Failed, with the command and its last lines.
//   - Nothing of the host's dnf configuration takes part: own configuration,
//     feeds, variables, caches, home and keyrings; no plugins, no aliases. Of rpm's
//     macros only those of its own package do, and the root's .rpmmacros. (libdnf
//     opens the host's dnf.conf for the object that stands for what is installed;
//     no setting of a feed or of a transaction comes from there.)
//   - A root of another architecture, or of a machine (Options.Arch, MachineArch),
//     takes its packages from the feeds and no others. What only its own programs
//     could run, its scriptlets for a shell, is not run, and with it no scriptlet
//     of that transaction: Result.NotRun says so. Scriptlets in Lua do run, unless
//     there are such others; where the kernel starts an emulator (Debian's
//     qemu-user-static) all run.
//   - Roots are independent: several may work at once. One Root is used by one
//     goroutine at a time.
//   - Cancelling the context kills the whole process group.
//
// As root it works directly. An ordinary user needs user namespaces (unshare -r);
// in such a root every file belongs to that user, and a package with files of
// another owner does not install.
//
// A root is a folder with root/ (the file system), and beside it what dnf needs:
// home/, repos.d/, vars/, cache/, logs/ (a transcript per command), dnf.conf.
// After a crash, remove it and begin again.
//
// Seen with dnf 4.14 and rpm 4.18. dnf5 gets the same settings under its own
// names (pkg_gpgcheck) but nobody has tried it here.
package dnf
