// Package dhtcli is the command "jirani dht": one question to a DHT, asked by hand.
//
// It enters the network as a client, a node that others do not put into their tables, through one entry point, does one
// operation and leaves. Keys are 40 hex digits, or any other text, which is hashed (SHA-1) as upstream's tools do.
//
// For people it prints a line per thing found. With -json it prints one JSON object per line on standard output and
// nothing else there: values in the form of OpenDHT's REST proxies (docs/protocols/opendht.md §5.5).
//
// Exit codes: 0 done, 1 failed or nothing there to answer, 2 misuse.
package dhtcli
