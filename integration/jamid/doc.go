// Package jamid drives a real Jami client from a test: Debian's jami-daemon 20230206, a complete Jami without a face,
// over its D-Bus interface (service cx.ring.Ring).
//
// [Start] gives each daemon a session bus, a home and an environment of its own inside a machine of a lab (see
// internal/natlab). The home outlives the daemon: start another one on the same directory, and the accounts are there
// again. [Daemon.Kill] ends it as a crash does.
//
// Every method that waits is bounded by its context, and returns what it was waiting for when it gives up. All signals
// are recorded with the time they came ([Signals]), so that an event which came before somebody waited for it is not
// missed; waiting starts at a [Mark] taken before the cause.
//
// What the real client needs, found the hard way:
//
//   - a default route, if only to a gateway that drops everything: without it calls and relay allocations fail;
//   - addresses that are not loopback, whose candidates it ignores;
//   - no IPv6 in its namespace: this build reads the kernel's address list with a blocking read that does not return on
//     current kernels, and the DHT thread then stops for good at the first ICE session;
//   - an account setting Account.hostname that is never empty (empty means the public network): 127.0.0.1:9 stands for
//     no bootstrap node, see [Settings];
//   - patience with names: it caches what it found per host name of the name server for ever, so a second request for
//     the same name never leaves it.
//
// The package does not decide pass or fail; integration/firstlight does.
package jamid
