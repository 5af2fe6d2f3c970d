// Package flow runs steps that survive the death of their process. It is a leaf
// and knows no step of Slipway.
//
// A run is a list of [Step], each with a digest of its inputs. [Run] writes to a
// [Journal] before and after each step, so that after a crash the same call goes
// on at the first unfinished step: a step that is done with the same inputs is
// skipped; when its inputs have changed, it and all after it run again. Steps
// must therefore be idempotent: one that was killed is started again from its
// beginning.
//
// While it works, Run saves heartbeats. Who reads a [Record] sees from them, and
// from the process table, whether its owner still lives: [Record.State] says
// running or lost without anybody having to write "lost" down. A run whose owner
// lives is never taken over; one whose owner died is, by the next call of Run. A
// step that needs a person returns [Wait].
package flow
