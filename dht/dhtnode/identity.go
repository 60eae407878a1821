package dhtnode

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
)

// maxCerts bounds the certificates remembered.
const maxCerts = 4096

// online is called when the node gets connected: our certificate goes out, at the places old and new versions look at
// (docs/protocols/opendht.md §6.6).
func (n *Node) online(now time.Time) {
	if n.cfg.Identity == nil || n.cfg.NoPublish || n.published {
		return
	}
	n.published = true
	v := dhtcrypto.CertificateValue(n.cfg.Identity.Chain)
	for _, place := range dhtcrypto.CertificatePlaces(n.cfg.Identity.Key.Public()) {
		n.startPut(place, v, PutOptions{Permanent: true}, make(chan error, 1), now)
	}
}

// PutSigned signs v with the node's identity and puts it. Its seq becomes one above that of any version of ours found at
// key under its id (§7.2), so that it replaces them. It waits for a lookup and then as Put does, and returns the value as
// it was put.
func (n *Node) PutSigned(ctx context.Context, key dht.InfoHash, v *dht.Value, o PutOptions) (*dht.Value, error) {
	if n.cfg.Identity == nil {
		return nil, ErrNoIdentity
	}
	if key.IsZero() || v == nil {
		return nil, ErrInvalid
	}
	v = v.Clone()
	if v.ID == 0 {
		v.ID = dht.RandomValueID()
	}
	v.Owner, v.Signature = nil, nil
	if err := n.nextSeq(ctx, key, v); err != nil {
		return nil, err
	}
	signed, err := dhtcrypto.SignValue(n.cfg.Identity.Key, v)
	if err != nil {
		return nil, err
	}
	return signed, n.Put(ctx, key, signed, o)
}

// nextSeq raises v.Seq above those of our own versions, being announced here or stored in the network.
func (n *Node) nextSeq(ctx context.Context, key dht.InfoHash, v *dht.Value) error {
	us := n.cfg.Identity.Key.Public()
	raise := func(o *dht.Value) {
		if o.ID == v.ID && o.IsSigned() && o.Owner.Equal(us) && o.Seq >= v.Seq && o.Seq < math.MaxUint16 {
			v.Seq = o.Seq + 1
		}
	}
	for _, o := range n.Puts(key) {
		raise(o)
	}
	q := dht.Query{Where: []dht.FieldValue{dht.WhereID(v.ID)}}
	err := n.Get(ctx, key, q, func(o *dht.Value) bool { raise(o); return true })
	if errors.Is(err, ErrNotConnected) {
		return nil
	}
	return err
}

// PutEncrypted signs v, encrypts it to the key named by long (or, if that is zero, by the short id) and puts it. The
// recipient's certificate is looked up first unless it is known (ErrNotFound). It returns the value as it was put.
func (n *Node) PutEncrypted(ctx context.Context, key dht.InfoHash, long dht.PkID, short dht.InfoHash, v *dht.Value, o PutOptions) (*dht.Value, error) {
	if n.cfg.Identity == nil {
		return nil, ErrNoIdentity
	}
	if key.IsZero() || v == nil {
		return nil, ErrInvalid
	}
	chain, err := n.FindCertificate(ctx, long, short)
	if err != nil {
		return nil, err
	}
	if v.ID == 0 {
		v = v.Clone()
		v.ID = dht.RandomValueID()
	}
	sealed, err := dhtcrypto.EncryptValue(n.cfg.Identity.Key, chain.Leaf().Key, v)
	if err != nil {
		return nil, err
	}
	return sealed, n.Put(ctx, key, sealed, o)
}

// Open decrypts a value that is encrypted to the node's identity; any other value is returned as it is. The errors are
// those of dhtcrypto.DecryptValue, and ErrNoIdentity.
func (n *Node) Open(v *dht.Value) (*dht.Value, error) {
	switch {
	case !v.IsEncrypted():
		return v, nil
	case n.cfg.Identity == nil:
		return nil, ErrNoIdentity
	}
	return dhtcrypto.DecryptValue(n.cfg.Identity.Key, v)
}

// FindCertificate returns the certificate of a key, from memory or from where new versions publish it, then, if the
// short id is known, from where old ones do. Either id may be zero. Only a certificate whose key has the ids asked for
// counts; ErrNotFound if there is none.
func (n *Node) FindCertificate(ctx context.Context, long dht.PkID, short dht.InfoHash) (dhtcrypto.Chain, error) {
	if long.IsZero() && short.IsZero() {
		return nil, ErrInvalid
	}
	if c := n.knownCertificate(long, short); c != nil {
		return c, nil
	}
	var places []dht.InfoHash
	if !long.IsZero() {
		places = append(places, long.Place())
	}
	if !short.IsZero() {
		places = append(places, short)
	}
	for _, place := range places {
		c, err := n.certificateAt(ctx, place, long, short)
		if err != nil || c != nil {
			return c, err
		}
	}
	return nil, ErrNotFound
}

func (n *Node) certificateAt(ctx context.Context, place dht.InfoHash, long dht.PkID, short dht.InfoHash) (found dhtcrypto.Chain, err error) {
	q := dht.Query{Where: []dht.FieldValue{dht.WhereType(dht.TypeCertificate)}}
	err = n.Get(ctx, place, q, func(v *dht.Value) bool {
		c, err := dhtcrypto.ChainOf(v, long, short)
		if err == nil {
			found = c
		}
		return found == nil
	})
	if found != nil {
		n.AddCertificate(found)
		return found, nil
	}
	return nil, err
}

// AddCertificate makes a certificate known, so that it need not be looked up.
func (n *Node) AddCertificate(c dhtcrypto.Chain) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.certs) >= maxCerts {
		for id := range n.certs { // any one makes room
			delete(n.certs, id)
			break
		}
	}
	n.certs[c.Leaf().Key.LongID()] = c
}

func (n *Node) knownCertificate(long dht.PkID, short dht.InfoHash) dhtcrypto.Chain {
	if id := n.cfg.Identity; id != nil && named(id.Key.Public(), long, short) {
		return id.Chain
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !long.IsZero() {
		if c := n.certs[long]; c != nil && named(c.Leaf().Key, long, short) {
			return c
		}
		return nil
	}
	for _, c := range n.certs {
		if named(c.Leaf().Key, long, short) {
			return c
		}
	}
	return nil
}

// named reports whether the key has the ids given; zero ids match any.
func named(k *dht.PublicKey, long dht.PkID, short dht.InfoHash) bool {
	return (long.IsZero() || k.LongID() == long) && (short.IsZero() || k.ID() == short)
}
