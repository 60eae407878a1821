// Package fake simulates the services that a push gateway talks to: Firebase Cloud Messaging with its OAuth
// token endpoint, Apple's push service, and a Web Push server. They are part of the product: `-set provider=fake`
// drives the real clients of this gateway against them, for tests, for measurements, and for an operator's
// drills ("what happens to our calls when Google is away for a minute?").
//
// The simulators are strict where the vendors are. A request that the vendor would refuse is refused with the
// vendor's status and reason: signatures of JWTs and their times, required headers and their combinations, body
// shapes and sizes, how often a provider token may change, how many streams a connection may carry. Beyond that
// they do what a Script says: latency, statuses for some tokens or for some time, Retry-After; and, on the
// connection, stream limits and GOAWAY.
//
// Everything is on loopback, with credentials made at start (Credentials) that open nothing else.
package fake
