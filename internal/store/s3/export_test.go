package s3

// SmallParts lets files of more than the smallest part that stores take go up in
// parts.
func SmallParts(b *Bucket) { b.parts.unit = 5 << 20 }
