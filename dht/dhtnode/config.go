package dhtnode

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/internal/udpio"
)

// Config says what kind of node to be. The zero value is a full node of the public network with a random id and the
// reference's limits.
type Config struct {
	ID      dht.InfoHash // zero = derived from Identity, else random; never share one between running nodes
	Network uint32       // 0 = the public network; packets of other networks are dropped
	// Identity signs, decrypts and has its certificate published once connected; nil = none of these.
	Identity *dhtcrypto.Identity
	Client   bool // only ask: others do not put us into their tables
	// Types makes the value types with a verifier that their policies must use for signatures: it knows what the
	// pool found, and costs nothing. nil = dhtcrypto.Types, all types of OpenDHT.
	Types func(dht.Verifier) *dht.Types

	// Bootstrap names where to enter the network: "host", "host:port", "[v6]:port"; port 4222 if none. All addresses
	// of a name are tried.
	Bootstrap []string
	// Wide lets buckets split to depth 6 wherever they are: for nodes that serve as entry points.
	Wide bool
	// PublicStable: listens are renewed every 290 s instead of 20 s, and a failed search is not taken for lost
	// connectivity. Right for a server without NAT, wrong behind one: pushes would not arrive.
	PublicStable bool
	// Maintain re-announces stored values when nodes closer to them appear (§12.4).
	Maintain bool
	// NoPublish keeps the certificate of Identity off the network.
	NoPublish bool

	RateLimit          int // requests per second answered in all; 0 = 8192, −1 = no limit
	RateLimitPerSource int // from one IPv4 address or IPv6 /64; 0 = 1024 or an eighth of RateLimit, −1 = no limit

	// Allow, when not empty, lists the only networks that may talk to the node; all else is dropped unread.
	Allow []netip.Prefix

	Storage   storage.Limits // zero fields = storage.DefaultLimits
	IdleNodes int            // records kept of nodes that are in no table, per family; 0 = routing.DefaultIdle
	Searches  int            // searches kept, per family: idle ones go when there are more; 0 = 1<<20
	Workers   int            // goroutines checking signatures; 0 = half the processors, at least one
}

// Conn is one UDP socket, or one of several on the same address: *udpio.Conn, or a virtual one in tests. ReadBatch fills
// messages and blocks until there is at least one; SetReadDeadline with a past time wakes it.
type Conn interface {
	ReadBatch([]udpio.Message) (int, error)
	WriteBatch([]udpio.Message) (int, error)
	LocalAddr() netip.AddrPort
	SetReadDeadline(time.Time) error
}

// Resolver looks up bootstrap hosts; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Deps is what a node works with.
type Deps struct {
	Conns    []Conn           // at least one; each IPv4 or IPv6 by its local address; requests leave by the first of a family
	Log      *slog.Logger     // nil = silent
	Resolver Resolver         // nil = net.DefaultResolver
	Now      func() time.Time // nil = time.Now
}

// Documented errors of operations; match with errors.Is.
var (
	// ErrNotConnected: no node could be asked. What the operation could do locally is done.
	ErrNotConnected = errors.New("dhtnode: not connected to any node")
	// ErrTimeout: the node asked did not answer its three sends.
	ErrTimeout = errors.New("dhtnode: no answer")
	// ErrNoIdentity: the operation needs Config.Identity.
	ErrNoIdentity = errors.New("dhtnode: no identity configured")
	// ErrNotFound: no valid certificate was found for the recipient.
	ErrNotFound = errors.New("dhtnode: certificate not found")
	// ErrInvalid: the value, key or query cannot be used.
	ErrInvalid = errors.New("dhtnode: invalid argument")
	// ErrClosed: Run has ended.
	ErrClosed = errors.New("dhtnode: node stopped")
	// ErrCancelled: CancelPut ended the put.
	ErrCancelled = errors.New("dhtnode: put cancelled")
)

// Defaults of the rate limiter (docs/protocols/opendht.md §8).
const (
	defaultRate          = 8192
	defaultRatePerSource = 1024
	perSourceShare       = 8
	maxSearches          = 1 << 20
)

func (c Config) validate(d Deps) error {
	if len(d.Conns) == 0 {
		return errors.New("dhtnode: no sockets")
	}
	return nil
}

// rates returns the limits per source and in all, 0 for none.
func (c Config) rates() (perSource, global int) {
	perSource, global = c.RateLimitPerSource, c.RateLimit
	switch {
	case perSource != 0:
	case global > 0:
		perSource = max(global/perSourceShare, 1)
	case global == 0:
		perSource = defaultRatePerSource
	}
	if global == 0 {
		global = defaultRate
	}
	return max(perSource, 0), max(global, 0)
}
