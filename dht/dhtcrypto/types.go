package dhtcrypto

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// Types returns the value types that every node knows, with their policies
// (§7). verify checks signed values; nil means [dht.Value.Verify].
func Types(verify dht.Verifier) *dht.Types {
	if verify == nil {
		verify = (*dht.Value).Verify
	}
	types := new(dht.Types)
	for _, vt := range []dht.ValueType{
		{ID: dht.TypeUserData, Name: "user data", Lifetime: 10 * time.Minute},
		{ID: dht.TypeDhtMessage, Name: "DHT message", Lifetime: 5 * time.Minute, Store: storeMessage},
		{ID: dht.TypeImMessage, Name: "IM message", Lifetime: 5 * time.Minute},
		{ID: dht.TypeTrustRequest, Name: "trust request", Lifetime: 7 * 24 * time.Hour},
		{ID: dht.TypeIceCandidates, Name: "ICE candidates", Lifetime: time.Minute},
	} {
		types.Register(dht.Secured(vt, verify))
	}
	types.Register(dht.ValueType{
		ID: dht.TypeIPService, Name: "IP service", Lifetime: 15 * time.Minute, Store: storeIPService,
	})
	types.Register(dht.ValueType{
		ID: dht.TypeCertificate, Name: "certificate", Lifetime: 7 * 24 * time.Hour,
		Store: storeCertificate, Edit: editCertificate,
	})
	return types
}

func refused(why string) error { return fmt.Errorf("%w: %s", dht.ErrRefused, why) }

// storeMessage refuses a message [service, data] with an empty service; what
// does not parse is stored all the same.
func storeMessage(key dht.InfoHash, v *dht.Value, from netip.AddrPort) (*dht.Value, error) {
	if m, err := dht.ParseMessage(v.Data); err == nil && m.Service == "" {
		return nil, refused("message without service")
	}
	return dht.StoreIfSmall(key, v, from)
}

// IPServiceData is the data of an IP service announcement: a msgpack bin of a
// Linux sockaddr.
func IPServiceData(a netip.AddrPort) []byte {
	return msgpack.AppendBin(nil, dht.AppendSockaddr(nil, a))
}

// ParseIPService reads the data of an IP service announcement.
func ParseIPService(b []byte) (netip.AddrPort, error) {
	r := msgpack.NewReader(b)
	raw := r.Blob()
	if err := r.Err(); err != nil {
		return netip.AddrPort{}, fmt.Errorf("dhtcrypto: IP service: %w: %w", ErrMalformed, err)
	}
	a, err := dht.ParseSockaddr(raw)
	if err != nil || !a.IsValid() {
		return netip.AddrPort{}, fmt.Errorf("dhtcrypto: IP service: %w", ErrMalformed)
	}
	return a, nil
}

// storeIPService rewrites an announcement to the address it came from, with
// the port announced: nobody can announce a service on another's address.
func storeIPService(key dht.InfoHash, v *dht.Value, from netip.AddrPort) (*dht.Value, error) {
	a, err := ParseIPService(v.Data)
	if err != nil {
		return nil, refused("no socket address")
	}
	if a.Port() == 0 {
		return nil, refused("port 0")
	}
	if from.Addr().IsValid() { // not for values put locally
		v = v.Clone()
		v.Data = IPServiceData(netip.AddrPortFrom(from.Addr().Unmap(), a.Port()))
	}
	return dht.StoreIfSmall(key, v, from)
}

// storeCertificate accepts a certificate only at a place of its own key, old
// or new (§6.6). Unlike upstream the size counts, too.
func storeCertificate(key dht.InfoHash, v *dht.Value, from netip.AddrPort) (*dht.Value, error) {
	if _, err := dht.StoreIfSmall(key, v, from); err != nil {
		return nil, err
	}
	chain, err := ParseChain(v.Data)
	if err != nil {
		return nil, refused("no certificate")
	}
	for _, place := range CertificatePlaces(chain.Leaf().Key) {
		if key == place {
			return v, nil
		}
	}
	return nil, refused("certificate of another key")
}

// editCertificate accepts a new certificate for the same key.
func editCertificate(key dht.InfoHash, stored, offered *dht.Value, from netip.AddrPort) (*dht.Value, error) {
	if offered.Type != dht.TypeCertificate {
		return nil, refused("certificate replaced by another type")
	}
	if _, err := storeCertificate(key, offered, from); err != nil {
		return nil, err
	}
	before, err := ParseChain(stored.Data)
	if err != nil {
		return nil, refused("stored certificate unreadable")
	}
	after, err := ParseChain(offered.Data)
	if err != nil || !bytes.Equal(before.Leaf().Key.DER(), after.Leaf().Key.DER()) {
		return nil, refused("certificate of another key")
	}
	return offered, nil
}
