package turn

import (
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/jirani/jirani/internal/natlab"
	"github.com/pion/stun/v3"
	"golang.org/x/sys/unix"
)

// rawClient is as little of a TURN client as a test needs that wants its socket for itself between two requests. Its user is the Jami user.
type rawClient struct {
	t      *testing.T
	conn   *net.UDPConn
	server netip.AddrPort
	realm  stun.Realm
	nonce  stun.Nonce
}

func newRawClient(t *testing.T, conn *net.UDPConn, server netip.AddrPort) *rawClient {
	t.Cleanup(func() { conn.Close() })
	return &rawClient{t: t, conn: conn, server: server}
}

// ask makes a request with credentials, again when it is lost, and wants success.
func (c *rawClient) ask(method stun.Method, attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	for range 2 { // without credentials first
		m := stun.MustBuild(append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)...)
		if c.nonce != nil {
			for _, s := range []stun.Setter{stun.NewUsername("ring"), c.realm, c.nonce, stun.NewLongTermIntegrity("ring", c.realm.String(), "ring")} {
				if err := s.AddTo(m); err != nil {
					c.t.Fatal(err)
				}
			}
		}
		resp := c.exchange(m)
		if resp.Type.Class == stun.ClassSuccessResponse {
			return resp
		}
		var code stun.ErrorCodeAttribute
		if err := resp.Parse(&code, &c.realm, &c.nonce); err != nil || code.Code != stun.CodeUnauthorized {
			c.t.Fatalf("%v: %v, %v", method, code, err)
		}
	}
	c.t.Fatalf("%v: refused with credentials", method)
	return nil
}

// exchange sends a request until its answer comes.
func (c *rawClient) exchange(m *stun.Message) *stun.Message {
	c.t.Helper()
	buf := make([]byte, 4096)
	for deadline := time.Now().Add(addressPatience); time.Now().Before(deadline); {
		if _, err := c.conn.WriteToUDPAddrPort(m.Raw, c.server); err != nil {
			c.t.Fatal(err)
		}
		c.conn.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, _, err := c.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				break
			}
			resp := &stun.Message{Raw: append([]byte(nil), buf[:n]...)}
			if stun.IsMessage(resp.Raw) && resp.Decode() == nil && resp.TransactionID == m.TransactionID {
				return resp
			}
		}
	}
	c.t.Fatal("no answer")
	return nil
}

func (c *rawClient) allocate() netip.AddrPort {
	c.t.Helper()
	resp := c.ask(stun.MethodAllocate, stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}})
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(resp, stun.AttrXORRelayedAddress); err != nil {
		c.t.Fatal(err)
	}
	ip, _ := netip.AddrFromSlice(relayed.IP)
	return netip.AddrPortFrom(ip.Unmap(), uint16(relayed.Port))
}

// peerAddress is an XOR-PEER-ADDRESS.
type peerAddress netip.AddrPort

func (p peerAddress) AddTo(m *stun.Message) error {
	a := netip.AddrPort(p)
	return stun.XORMappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}

func (c *rawClient) bind(number uint16, peer netip.AddrPort) {
	c.t.Helper()
	c.ask(stun.MethodChannelBind, stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{byte(number >> 8), byte(number), 0, 0}}, peerAddress(peer))
}

func (c *rawClient) refresh(seconds byte) {
	c.t.Helper()
	c.ask(stun.MethodRefresh, stun.RawAttribute{Type: stun.AttrLifetime, Value: []byte{0, 0, 0, seconds}})
}

// checksums says whether the machine's card computes checksums of what is sent (a virtual one leaves them out, and so does not find a wrong
// one), or the kernel does.
func checksums(t *testing.T, m *natlab.Machine, card bool) {
	t.Helper()
	const setTX = 0x17 // ETHTOOL_STXCSUM
	value := struct{ cmd, data uint32 }{cmd: setTX}
	if card {
		value.data = 1
	}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], "eth0")
	err := m.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		t.Fatalf("checksums of %s: %v", m.Name, err)
	}
}
