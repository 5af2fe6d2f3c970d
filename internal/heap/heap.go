// Package heap sets how Go collects garbage in a command.
package heap

import (
	"os"
	"runtime"
	"runtime/debug"
)

// patience is how much the heap may grow before the first collection, in percent of
// the 4 MiB that Go takes as the smallest heap: 32 MiB.
const patience = 800

// Patient lets a short command end before any garbage is collected: the first
// collection waits until the heap has 32 MiB, those after it come as Go has them. It
// does nothing where GOGC says what is wanted.
func Patient() {
	if os.Getenv("GOGC") != "" {
		return
	}
	usual := debug.SetGCPercent(patience)
	// Collected, and so finalized, at the end of the first collection.
	first := new([16]byte)
	runtime.SetFinalizer(first, func(*[16]byte) { debug.SetGCPercent(usual) })
}

// roomy is the growth, in percent of what lives, that a long reading may take.
const roomy = 250

// Roomy lets the heap grow further between two collections until back is called: for
// work that keeps much of what it reads, where marking it again and again is a fifth of
// the time. It does nothing where GOGC says what is wanted.
func Roomy() (back func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	usual := debug.SetGCPercent(roomy)
	return func() { debug.SetGCPercent(usual) }
}
