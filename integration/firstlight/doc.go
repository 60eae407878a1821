// Package firstlight holds the proof that the servers carry real Jami clients: it has no code, only the suite.
//
// Two jami-daemons of Debian live a first evening together, in each of six small internets (see internal/natlab): they
// make accounts, register names, find and invite each other, write, send a file, call; their servers are killed and
// started again; one is away while the other writes. Nothing else serves them, and no packet may try to leave.
//
//	go test ./integration/firstlight                      the separate binaries of this module, built for the run
//	go test ./integration/firstlight -servers=up          jirani up, one process
//	go test ./integration/firstlight -servers=upstream    dhtnode and coturn's turnserver of Debian, with a name server
//	                                                      inside the test: the baseline
//	-run TestFirstLight/lan        one topology          -times FILE   the table of times, as Markdown
//	-artifacts -outputdir DIR      keep logs and captures also of what passed
//
// Every wait is bounded, generously: the suite judges what happens, not how fast. A world in which upstream's client crashed is lived
// through once more, and the crash appended to the file that JIRANI_NOTES names.
//
// It needs root (or CAP_SYS_ADMIN and CAP_NET_ADMIN) and the packages jami-daemon and dbus-daemon, and for the baseline
// dhtnode and coturn; it skips without them, and fails instead when JIRANI_REQUIRE=1.
package firstlight
