// Package turn tries the TURN server with programs that others wrote: coturn's clients and pion's. It has no code, only the suite.
//
//	go test ./integration/turn
//
// It needs Debian's coturn for turnutils_uclient, turnutils_peer and turnutils_stunclient; without them it skips, or fails when
// JIRANI_REQUIRE=1. Everything stays on loopback and in network namespaces; the tests of addresses and of the data path in the
// kernel need root for those.
package turn
