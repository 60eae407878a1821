//go:build race

package dhtnode_test

import "runtime"

// One processor: with Go 1.26 the race detector itself crashes in some runs of the large networks, in their bubbles' timers, when there are
// two. It orders accesses by what happened before what, so that one processor hides little from it.
func init() { runtime.GOMAXPROCS(1) }
