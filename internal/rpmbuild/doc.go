// Package rpmbuild is the embedded builder: it turns layers of spec files into
// RPM packages with the host's rpmbuild, and starts rpmspec, rpmbuild and bwrap.
//
// A layer is a folder: specs/<name>/<name>.spec with its sources beside it, and
// specs/<name>/sources.yaml for sources that lie in no layer ([ReadSources]).
// One task builds one spec for one scope: "noarch" once, generic packages once per
// architecture, machine packages (BuildArch: %{slipway_machine_arch}) once per
// board. Another architecture's packages are cross-compiled; a task's sysroot holds
// packages of its own architecture, of its own machine, and noarch.
//
//   - [Builder.Prepare] copies the specs, parses all of them, resolves what they
//     need of each other and writes the plan. Everything that is wrong with any
//     spec is reported at once.
//   - [Builder.Build] runs the tasks in parallel, in order of dependencies, each
//     in a sandbox that sees the host's programs, its own sources and the built
//     packages that it asked for: no network, no home folders, no keys.
//   - [Builder.Collect] gives packages, logs and the PR database.
//
// Packages do not depend on the machine, the folder, the clock or the number of
// jobs: two builds of one revision have equal bytes (the host's rpm and compiler
// being the same; [Builder.Pin] names their versions).
//
// Numbers. A spec writes Release: %{slipway_number}. A task is first built with
// the number of the base release; if the content of its packages is equal, that
// number and the published files are kept. Otherwise [Numbers] gives the next
// one and the task is built again.
//
// A build that was stopped, by whatever, goes on with the same calls: a task is
// finished when its marker is there, and is done again otherwise.
//
// docs/builder-rpmbuild.md is the page for authors of specs; the files in a
// build's folder are described at [plan] and [marker].
package rpmbuild
