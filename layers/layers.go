// Package layers holds meta-slipway, the Yocto layer that users of Slipway add,
// inside the program. The example distribution takes its scripts from there: what a
// device does at its first boot and at an update has one source, whoever builds it.
package layers

import (
	"embed"
	"io/fs"
)

//go:embed meta-slipway
var files embed.FS

// MetaSlipway is the layer, as a checkout has it; its root has conf/layer.conf. Modes
// are lost: what begins with "#!" is a program.
func MetaSlipway() fs.FS {
	sub, err := fs.Sub(files, "meta-slipway")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}
