// Package boards has the tests of the example halyard-boards: Halyard Linux with
// two machines, their kernels and a first boot. It takes Debian's packages from
// the network the first time, and from the user's cache afterwards.
package boards
