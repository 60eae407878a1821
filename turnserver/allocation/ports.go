package allocation

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"sync"
)

// ErrNoPort says that every port of the range is in use (508).
var ErrNoPort = errors.New("allocation: no relay port is free")

// Ports hands out the relay ports of one address and transport, at random so that they cannot be guessed (RFC 8656 §7.2). It is safe for
// concurrent use.
type Ports struct {
	min  int
	n    int // ports in the range
	mu   sync.Mutex
	used []uint64 // a bit per port; guarded by mu
	free int      // guarded by mu
}

// NewPorts returns the pool of ports min to max, both included.
func NewPorts(min, max uint16) *Ports {
	n := int(max) - int(min) + 1
	p := &Ports{min: int(min), n: n, free: n, used: make([]uint64, (n+63)/64)}
	for i := n; i < len(p.used)*64; i++ {
		p.used[i/64] |= 1 << (i % 64) // beyond the range: never free
	}
	return p
}

// Take returns a free port. It has to be given back.
func (p *Ports) Take() (uint16, error) { return p.take(^uint64(0)) }

// TakeEven returns a free even port (RFC 8656 §7.2, EVEN-PORT).
func (p *Ports) TakeEven() (uint16, error) { return p.take(p.evenMask()) }

// TakePair returns a free even port and takes the odd one above it too (EVEN-PORT with its R bit).
func (p *Ports) TakePair() (uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	start := rand.IntN(len(p.used))
	for i := range p.used {
		w := (start + i) % len(p.used)
		free := ^p.used[w]
		if pairs := free & (free >> 1) & p.evenMask(); pairs != 0 {
			bit := pick(pairs)
			p.used[w] |= 3 << bit
			p.free -= 2
			return uint16(p.min + w*64 + bit), nil
		}
	}
	return 0, ErrNoPort
}

// evenMask has the bits of the even ports.
func (p *Ports) evenMask() uint64 {
	if p.min%2 == 0 {
		return 0x5555555555555555
	}
	return 0xAAAAAAAAAAAAAAAA
}

// take looks for a free port among those of mask, from a random place on.
func (p *Ports) take(mask uint64) (uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	start := rand.IntN(len(p.used))
	for i := range p.used {
		w := (start + i) % len(p.used)
		if free := ^p.used[w] & mask; free != 0 {
			bit := pick(free)
			p.used[w] |= 1 << bit
			p.free--
			return uint16(p.min + w*64 + bit), nil
		}
	}
	return 0, ErrNoPort
}

// pick returns the position of a random one of the set bits.
func pick(set uint64) int {
	for range rand.IntN(bits.OnesCount64(set)) {
		set &= set - 1
	}
	return bits.TrailingZeros64(set)
}

// Give returns a port. A port that is not taken is the caller's bug and panics.
func (p *Ports) Give(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := int(port) - p.min
	if i < 0 || i >= p.n || p.used[i/64]&(1<<(i%64)) == 0 {
		panic("allocation: a port is given back that was not taken")
	}
	p.used[i/64] &^= 1 << (i % 64)
	p.free++
}

// Taken reports whether port is in use: whether a relayed transport address lives there.
func (p *Ports) Taken(port uint16) bool {
	i := int(port) - p.min
	if i < 0 || i >= p.n {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used[i/64]&(1<<(i%64)) != 0
}

// Free returns how many ports are free.
func (p *Ports) Free() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free
}

// Idle reports whether no port is in use.
func (p *Ports) Idle() bool { return p.Free() == p.n }
