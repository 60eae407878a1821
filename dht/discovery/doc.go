// Package discovery finds services of the Jami family on the local network, as OpenDHT's peer discovery does
// (docs/protocols/opendht.md §16).
//
// # Packets
//
// All travel over UDP port 8888, to the groups 239.192.0.1 and ff08::101 or to one host; a packet is one msgpack object.
//
//	query         "q"                                   a1 71: publish please
//	announcement  {service name (str): object, …}       everything its sender publishes
//
// Objects known here:
//
//	"dht"   [node id bin 20, UDP port uint16, network id uint32]    a DHT node at the packet's source address
//	"jami"  [account id bin 20, display name str]                   a person
//
// Bytes after the object are ignored, as are services nobody asked for.
//
// # Behaviour
//
// Whoever looks for a service sends a query to the group, whoever publishes sends an announcement; a publisher answers
// each query it receives with an announcement to the one who asked. At the start, after [Discovery.Refresh], and when
// the machine's interfaces have changed, query and announcement are sent at once and again 10, 20 and 40 seconds
// after the one before; then there is silence. Every multicast interface of the machine takes part, each on its own.
//
// # Trust
//
// Anybody on the network can announce anything under any name: what is found is a hint to try. Queries are answered only
// to addresses on a network of ours and at most [maxAnswers] times a second, since an answer is larger than a query and
// the source of a packet can be forged.
package discovery
