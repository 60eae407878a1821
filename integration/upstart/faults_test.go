package upstart

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/jirani/jirani/integration/smalldisk"
	"github.com/jirani/jirani/internal/natlab"
	"github.com/jirani/jirani/nameserver/nameproto"
)

// TestDiskFull fills the disk under a running network: what only reads goes on, registrations are refused as "try later", the card says
// why, nothing acknowledged is lost over a kill, and with room again everything works.
func TestDiskFull(t *testing.T) {
	natlab.Require(t, "dhtnode")
	disk := smalldisk.Mount(t, "16m") // before the lab, whose machines see the mounts of their making
	lab := newLab(t)
	other := lab.Host("alice")
	up := start(t, lab, "server", disk, "-set", "nameserver.policy.rate_burst=100000")
	acknowledged := []string{"before"}
	if status := register(t, other, natlab.LANServerAddr, "before"); status != 200 {
		t.Fatalf("register = %d\n%s", status, up.output())
	}

	empty := smalldisk.Fill(t, disk)
	for i := 0; ; i++ { // what is allocated already may hold a few names
		name := fmt.Sprintf("full-%d", i)
		status := register(t, other, natlab.LANServerAddr, name)
		if status == 503 {
			break
		}
		if status != 200 || i == 2000 {
			t.Fatalf("registration %d on a full disk = %d\n%s", i, status, up.output())
		}
		acknowledged = append(acknowledged, name)
	}
	t.Logf("%d names before the disk was full", len(acknowledged))
	known(t, other, natlab.LANServerAddr, acknowledged...)
	joinDHT(t, lab, "alice", natlab.LANServerAddr.String()+":4222")
	poll(t, func() error {
		_, body, err := get(t, other, serverURL(8000, "/v1/card"))
		if err != nil || !bytes.Contains(body, []byte("full")) {
			return fmt.Errorf("the card says nothing of the disk: %s %v", body, err)
		}
		return nil
	})

	up.end(syscall.SIGKILL)
	empty()
	up = start(t, lab, "server", disk)
	known(t, other, natlab.LANServerAddr, acknowledged...)
	if status := register(t, other, natlab.LANServerAddr, "after"); status != 200 {
		t.Errorf("register with room again = %d\n%s", status, up.output())
	}
	up.end(syscall.SIGTERM)
}

// TestAddressChange gives the machine another address while the network runs: everything answers there and the card tells it.
func TestAddressChange(t *testing.T) {
	natlab.Require(t, "dhtnode")
	lab := newLab(t)
	up := start(t, lab, "server", t.TempDir())
	other := lab.Host("alice")
	if status := register(t, other, natlab.LANServerAddr, "before"); status != 200 {
		t.Fatalf("register = %d\n%s", status, up.output())
	}
	moved := netip.MustParseAddr("10.77.0.99")
	if err := lab.Host("server").Readdress(moved); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		_, body, err := get(t, other, fmt.Sprintf("http://%s:8000/v1/card", moved))
		if err != nil || bytes.Contains(body, []byte(natlab.LANServerAddr.String()+":")) || !bytes.Contains(body, []byte(moved.String())) {
			return fmt.Errorf("the card = %s %v", body, err)
		}
		return nil
	})
	known(t, other, moved, "before")
	if status := register(t, other, moved, "after"); status != 200 {
		t.Errorf("register = %d\n%s", status, up.output())
	}
	joinDHT(t, lab, "alice", moved.String()+":4222")
	poll(t, func() error { return relayAnswers(other, netip.AddrPortFrom(moved, 3478)) })
	up.end(syscall.SIGTERM)
}

// relayAnswers asks a TURN server over UDP how it sees us.
func relayAnswers(from *natlab.Machine, server netip.AddrPort) error {
	conn, err := from.ListenPacket(netip.AddrPortFrom(from.Addr, 0))
	if err != nil {
		return err
	}
	defer conn.Close()
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	if _, err := conn.WriteToUDPAddrPort(request.Raw, server); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(time.Second))
	answer := &stun.Message{Raw: make([]byte, 1500)}
	n, source, err := conn.ReadFromUDPAddrPort(answer.Raw)
	if err != nil {
		return err
	}
	answer.Raw = answer.Raw[:n]
	var mapped stun.XORMappedAddress
	if err := answer.Decode(); err != nil {
		return err
	}
	if err := mapped.GetFrom(answer); err != nil || answer.TransactionID != request.TransactionID || source != server {
		return fmt.Errorf("%v answered %v, %v", source, answer, err)
	}
	return nil
}

// register registers a name for a new account and returns the status.
func register(t *testing.T, from *natlab.Machine, server netip.Addr, name string) (status int) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	r, err := nameproto.Sign(key, name)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}}
	res, err := client.Post(fmt.Sprintf("http://%s:8081/name/%s", server, name), "application/json", bytes.NewReader(nameproto.AppendRegistration(nil, r)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// known looks names up.
func known(t *testing.T, from *natlab.Machine, server netip.Addr, names ...string) {
	t.Helper()
	for _, name := range names {
		status, body, err := get(t, from, fmt.Sprintf("http://%s:8081/name/%s", server, name))
		if err != nil || status != 200 || !strings.Contains(string(body), name) {
			t.Fatalf("name %s = %d %s %v", name, status, body, err)
		}
	}
}
