// Package allinone is a whole Jami network in one process: the roles with their state in one directory, the addresses by which others
// reach this machine, and the network card.
//
// It is the one place besides cmd where the roles meet. Its configuration nests theirs; its defaults are those of a LAN: listen on all
// addresses, announce the DHT node by multicast, open registration of names, relay between private addresses, and for TURN the one user
// that Jami's clients carry by default.
package allinone
