// Package natlab builds small internets out of Linux network namespaces, so that a test can put real programs behind
// real NATs on one machine and know that no packet of theirs can leave it.
//
// A [Topology] is plain data: networks (broadcast domains), hosts (one interface each), routers (two or more, or one for
// a gateway that leads nowhere). [Topology.Validate] and the presets ([TwoHomes], [TwoPublic], [OneLAN]) need no
// privilege and touch nothing. [Build] turns the data into namespaces:
//
//   - each network is a bridge in a namespace that nobody else uses; each host and router has a namespace of its own,
//     joined to its bridges by veth pairs. No interface of the machine takes part, so the lab is closed by construction;
//   - a router forwards between its networks. Its NAT kind and its filters become nftables rules (table "natlab");
//   - every router counts packets whose destination lies in no network of the topology, in a set that [Lab.Strays] reads,
//     and drops them: a program that tries to reach the world outside is seen trying;
//   - IPv6 is off, since the real Jami client of the tests hangs on it (see integration/jamid).
//
// Words for NATs are those of RFC 4787: a mapping is endpoint-independent, or depends on address and port (symmetric);
// so does a filter. See [NAT].
//
// # Namespaces and goroutines
//
// A namespace belongs to an operating-system thread. Each host keeps one goroutine locked to a thread that lives in its
// namespaces; [Host.Start] forks programs from it, [Host.Do] runs a function on another such thread, and a socket
// opened there stays in the namespace for ever and may be used from any goroutine. Namespaces have no name and vanish
// with their threads, sockets and programs, also after a crash of the test; programs die with the thread that started
// them. Nothing external is run, and there is nothing to clean up by hand.
//
// # What a failed test leaves
//
// [New] is [Build] for tests: it skips, or fails when JIRANI_REQUIRE=1, on a machine without the privilege, captures
// the packets of every host in files of the pcap format, and keeps them, with what the test wrote to [Lab.Dir],
// when the test fails.
package natlab
