// Package cycle is the life of a release as a list of steps: capture, build,
// collect, candidate feed, checks, gate, approve, sign, publish, restore. It
// knows the order of the steps and the documents that say where a release
// stands; what a step does is the work of the packages that it joins.
//
// A [Workspace] is one series in one folder. Every public method is one command
// of a person: it takes the lock that it needs, leaves the state as the table of
// distro.Transitions allows, and can be repeated after a crash: the same command
// again finishes the work (package flow journals the steps).
//
// Documents in the state, by kind: "series" (head, serial, reserved versions),
// "build" ([Build], the candidate included), "release" ([Release]), "change"
// ([Change]), "journal" (package flow); "number" in workspaces of older programs.
package cycle
