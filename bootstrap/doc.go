// Package bootstrap is the server role of a DHT node that others enter the network by (docs/protocols/opendht.md §14).
//
// Any node of the network can serve as an entry; this one is made to be one: it keeps its acquaintances and its values over
// restarts, binds several addresses, tells what it does in metrics, and can be closed to all but some networks. Nothing
// in the protocol depends on it once others know each other.
//
// # Being there
//
// The server starts with an empty table and serves from the first moment. When it loses all contact it goes on
// answering and tries its entry points again, waiting longer each time, up to a quarter of an hour; what others send it
// connects it at once. It never asks a dead node more than three times.
//
// # Ready
//
// The server is ready when its sockets are read and the node answers within the check's time. A node alone on its
// network is ready: those who come later need it to be there. One that was given entry points and has reached none of them
// for ten minutes is not: it would lead newcomers to an island. A failing disk does not make it unready either; see below.
//
// # State file
//
// Id, good nodes and stored values are written every [Config.StateInterval] and at the end, whole or not at all. A file
// that cannot be read is put aside with the ending ".damaged", and the node starts with an empty table. A file that cannot
// be written (a full disk) is logged once and counted; serving goes on. Whoever can write the file can choose the node's
// id and its first contacts, and nothing else. Two nodes with a copy of one file have one id and cannot talk to each
// other, so the directory is locked.
package bootstrap
