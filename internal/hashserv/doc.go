// Package hashserv is BitBake's hash equivalence server: the protocol OEHASHEQUIV
// 1.1 over package asyncrpc, answered from a database of package hashdb.
//
// A build asks it under which unified hash the output of a task is kept
// (get-stream, exists-stream), and reports what its own tasks gave (report). Any
// BitBake from 2.0 to 2.19 is a client. A server may have an upstream: what it
// does not know it asks there, many questions in one round trip, and keeps the
// answer; when the upstream does not answer, the server answers from what it has,
// and says so in its numbers.
//
// Permissions are as in BitBake: anonymous clients have a set of them, users who
// log in have their own. docs/hashserv.md is the user's page; it lists where this
// server differs from BitBake's, each for a reason.
package hashserv
