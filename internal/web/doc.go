// Package web shows a publication to clients over HTTP, read-only.
//
// [Handler] serves one folder of plain files: no listings, no hidden names, no
// way out of the folder by a link. Pointers (see [Pointer]) are answered with
// "no-cache" and an entity tag of their bytes, everything else as immutable for
// ever, because a publication never changes it. "/" says in a few lines what is
// here and which dnf commands to try. [Serve] listens until its context ends.
//
// A publication needs no server of ours: any static host serves it as well. What
// this one adds is the right headers. It knows no other package of Slipway but
// errs: it reads names and distribution.json as a stranger would.
package web
