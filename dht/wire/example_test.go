package wire_test

import (
	"fmt"
	"net/netip"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
)

// A ping and its answer, with the packets a server would reuse.
func ExamplePacket() {
	ping := wire.Packet{Kind: wire.Ping, ID: dht.HashText("asker"), TID: 1001}
	datagram := ping.Append(nil)

	var in, out wire.Packet
	if err := in.Parse(datagram); err != nil {
		fmt.Println("dropped:", err)
		return
	}
	out.Reset()
	out.Kind, out.ID, out.TID = wire.Reply, dht.HashText("server"), in.TID
	out.PublicAddr = netip.MustParseAddr("192.0.2.7")
	answer := out.Append(nil)

	if err := in.Parse(answer); err != nil {
		fmt.Println("dropped:", err)
		return
	}
	fmt.Println(in.Kind, in.TID, in.ID == dht.HashText("server"), in.PublicAddr)
	// Output: reply 1001 true 192.0.2.7
}
