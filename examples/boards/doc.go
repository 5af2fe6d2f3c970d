// Package boards has the tests of the example halyard, with its layer for devices
// that upgrade themselves: two machines, their kernels and a first boot. It takes
// Debian's packages from the network the first time, and from the user's cache
// afterwards.
package boards
