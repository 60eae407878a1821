// Package allocation holds what a TURN server remembers, as tables without sockets and without a clock of their own: who may send to an
// allocation ([Permissions]), which channel number stands for which peer ([Channels]), which relay ports are free ([Ports]), how many
// allocations somebody has ([Quota]) and how many bytes may pass ([Bucket]).
//
// Time is an argument everywhere. Callers pass time.Now, whose monotonic reading makes every lifetime immune to jumps of the wall clock.
// [Permissions] and [Channels] belong to one allocation and are guarded by its owner; the others are safe for concurrent use.
package allocation
