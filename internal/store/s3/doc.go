// Package s3 is store.Tree and store.Blobs in a bucket of any S3-compatible
// object store: what one machine's folders are to a publication of one machine.
//
//	bucket, err := s3.Open(ctx, s3.Location{Bucket: "feeds", Prefix: "halyard"}, s3.Options{Endpoint: "https://s3.example.org", Region: "eu-1"})
//	tree := bucket.Tree()
//
// Keys are the prefix, "/" and the name; nothing else is in the way, so that the
// bucket can be served to clients as it is. docs/object-storage.md is for those
// who set one up.
//
// # Promises
//
// A PUT is durable and visible, whole, when the store has answered: Create needs
// no later Sync, and Sync does nothing. Files are written once because every
// Create is a conditional one (If-None-Match: *), decided by the store: [Open]
// tries that out and refuses a store that ignores the condition. Large files go
// up in parts, several at once; they appear when the store is told that all parts
// are there, under the same condition.
//
// A request that fails for a passing reason (a cut connection, 5xx, 429) is
// repeated, at most [Options].Attempts times, with growing pauses. When the
// answer to a create was lost, the repetition finds the file there: equal bytes
// are success. After the last try the error is errs.Unavailable, names bucket and
// key, and what was there is still in force. A kill leaves at most an unfinished
// upload in parts, which nobody sees and a lifecycle rule of the bucket removes.
//
// What is stored carries its sha256 as metadata (x-amz-meta-sha256), so that a
// repeated publish compares without fetching.
package s3
