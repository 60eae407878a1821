package discovery

import (
	"errors"
	"fmt"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// ErrMalformed is wrapped by the errors of the parsers.
var ErrMalformed = errors.New("discovery: malformed packet")

// Names of the services known here.
const (
	ServiceDHT  = "dht"
	ServiceJami = "jami"
)

// Bounds on what is read.
const (
	maxPacket   = 8 << 10 // bytes; announcements are below 200, a packet of more than one frame is nobody's
	maxServices = 16      // in one announcement; OpenDHT has two
	maxName     = 64      // bytes of a service's name
	maxDisplay  = 512     // bytes of a person's name
)

const query = "q"

// Service is one entry of an announcement.
type Service struct {
	Name   string
	Object []byte // one msgpack object
}

// AppendQuery appends the packet that asks for announcements.
func AppendQuery(dst []byte) []byte { return msgpack.AppendStr(dst, query) }

// AppendAnnouncement appends a packet with the services in the order given.
func AppendAnnouncement(dst []byte, services []Service) []byte {
	dst = msgpack.AppendMapHeader(dst, len(services))
	for _, s := range services {
		dst = append(msgpack.AppendStr(dst, s.Name), s.Object...)
	}
	return dst
}

// Parse reads a packet: a query, or the services of an announcement, whose objects alias b.
func Parse(b []byte) (isQuery bool, services []Service, err error) {
	if len(b) > maxPacket {
		return false, nil, fmt.Errorf("%d bytes: %w", len(b), ErrMalformed)
	}
	r := msgpack.NewReader(b)
	if r.Kind() == msgpack.Str {
		if string(r.Str()) != query || r.Err() != nil {
			return false, nil, fmt.Errorf("unknown word: %w", ErrMalformed)
		}
		return true, nil, nil
	}
	n := r.MapLen()
	if n > maxServices {
		r.Fail("too many services")
	}
	for ; n > 0 && r.Err() == nil; n-- {
		name := r.Str()
		object := r.Raw()
		if len(name) > maxName {
			r.Fail("service name too long")
		}
		services = append(services, Service{string(name), object})
	}
	if err := r.Err(); err != nil {
		return false, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return false, services, nil
}

// DHT is the object of ServiceDHT: a node reachable at the announcement's source address with this port.
type DHT struct {
	ID      dht.InfoHash
	Port    uint16
	Network uint32
}

// Append appends [id, port, network].
func (d DHT) Append(dst []byte) []byte {
	dst = msgpack.AppendBin(msgpack.AppendArrayHeader(dst, 3), d.ID[:])
	return msgpack.AppendUint(msgpack.AppendUint(dst, uint64(d.Port)), uint64(d.Network))
}

// ParseDHT reads the object of ServiceDHT. An id or a port of zero cannot be used and is an error.
func ParseDHT(object []byte) (d DHT, err error) {
	r := msgpack.NewReader(object)
	tuple(&r, 3)
	d.ID = id(&r)
	d.Port = uint16(r.UintMax(0xffff))
	d.Network = uint32(r.UintMax(0xffffffff))
	if r.Err() == nil && d.Port == 0 {
		r.Fail("port 0")
	}
	if err := r.Err(); err != nil {
		return DHT{}, fmt.Errorf("dht: %w: %w", ErrMalformed, err)
	}
	return d, nil
}

// Account is the object of ServiceJami.
type Account struct {
	ID   dht.InfoHash
	Name string // chosen by its owner; may be empty
}

// Append appends [id, name].
func (a Account) Append(dst []byte) []byte {
	dst = msgpack.AppendBin(msgpack.AppendArrayHeader(dst, 2), a.ID[:])
	return msgpack.AppendStr(dst, a.Name)
}

// ParseAccount reads the object of ServiceJami.
func ParseAccount(object []byte) (a Account, err error) {
	r := msgpack.NewReader(object)
	tuple(&r, 2)
	a.ID = id(&r)
	name := r.Str()
	if len(name) > maxDisplay {
		r.Fail("display name too long")
	}
	if err := r.Err(); err != nil {
		return Account{}, fmt.Errorf("jami: %w: %w", ErrMalformed, err)
	}
	a.Name = string(name)
	return a, nil
}

// tuple reads the header of an array of n elements; more may follow in later versions.
func tuple(r *msgpack.Reader, n int) {
	if r.ArrayLen() < n {
		r.Fail("too few elements")
	}
}

func id(r *msgpack.Reader) (h dht.InfoHash) {
	b := r.Bin()
	if r.Err() == nil && len(b) != len(h) {
		r.Fail("id is not 20 bytes")
	}
	copy(h[:], b)
	if r.Err() == nil && h == (dht.InfoHash{}) {
		r.Fail("id is zero")
	}
	return h
}
