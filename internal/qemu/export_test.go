package qemu

// AtAddress is a device whose ssh server is at HOST:PORT, and of which nothing else is
// known, as if a lab had switched it on.
func AtAddress(address string) *Guest {
	return &Guest{rig: &Rig{lab: &lab{}}, opt: Options{Name: "the device"}, gone: make(chan struct{}),
		now: &power{lab: true, address: address, hostKeys: map[string]string{}, done: make(chan struct{})}}
}
