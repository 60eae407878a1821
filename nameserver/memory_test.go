package nameserver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

// memory is a registry without a ledger, for tests of what is said over HTTP
// and of what happens when the ledger fails. fail, when set, is the answer to
// every call it matches.
type memory struct {
	registry.Reader // what tests do not need panics
	registry.Writer

	mu       sync.Mutex
	names    map[string]registry.Record
	skels    map[string]string
	addrs    map[ledger.Address]string
	reserved map[string]bool
	invites  map[string]int
	fail     func(call string) error
	calls    map[string]int
}

func newMemory() *memory {
	return &memory{
		names: map[string]registry.Record{}, skels: map[string]string{}, addrs: map[ledger.Address]string{},
		reserved: map[string]bool{}, invites: map[string]int{}, calls: map[string]int{},
	}
}

func (m *memory) backend() backend {
	return backend{reader: m, writer: m, reservations: m, members: service.Group{{Runner: waiting{}}}, close: func() error { return nil }}
}

type waiting struct{}

func (waiting) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (m *memory) enter(call string) error {
	m.calls[call]++
	if m.fail != nil {
		return m.fail(call)
	}
	return nil
}

func (m *memory) failing(f func(call string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = f
}

func (m *memory) called(call string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[call]
}

func (m *memory) LookupName(_ context.Context, key string) (registry.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter("lookup"); err != nil {
		return registry.Record{}, err
	}
	rec, ok := m.names[key]
	if !ok {
		return rec, registry.ErrNotFound
	}
	return rec, nil
}

func (m *memory) LookupAddress(_ context.Context, a ledger.Address) (registry.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter("reverse"); err != nil {
		return registry.Record{}, err
	}
	key, ok := m.addrs[a]
	if !ok {
		return registry.Record{}, registry.ErrNotFound
	}
	return m.names[key], nil
}

func (m *memory) Register(_ context.Context, r ledger.Registration) (registry.Record, error) {
	if err := r.Verify(); err != nil {
		return registry.Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter("register"); err != nil {
		return registry.Record{}, err
	}
	if old, ok := m.names[r.Key]; ok {
		if old.Address == r.Address {
			return old, nil
		}
		return registry.Record{}, registry.ErrTaken
	}
	if _, ok := m.skels[r.Skeleton]; ok && r.Skeleton != "" {
		return registry.Record{}, registry.ErrTaken
	}
	if _, ok := m.addrs[r.Address]; ok {
		return registry.Record{}, registry.ErrAddressTaken
	}
	if r.Invite != nil {
		if m.invites[string(r.Invite)] == 0 {
			return registry.Record{}, registry.ErrInvite
		}
		m.invites[string(r.Invite)]--
	}
	rec := registry.Record{
		Index: int64(len(m.names)), Time: time.Unix(1_800_000_000, 0), Name: r.Name, Key: r.Key, Address: r.Address,
		Owner: r.Owner, PublicKey: r.PublicKey, Signature: r.Signature,
	}
	m.names[r.Key], m.addrs[r.Address], m.skels[r.Skeleton] = rec, r.Key, r.Key
	return rec, nil
}

func (m *memory) RecordPolicy(context.Context, [32]byte) error { return nil }

func (m *memory) Prove(context.Context, ledger.Subject) (ledger.Proof, error) {
	return ledger.Proof{}, nil
}

func (m *memory) VKeys() []string { return []string{"localhost/names+0+key"} }

func (m *memory) Status() registry.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := registry.Status{Origin: "localhost/names", Size: int64(len(m.names)), Names: int64(len(m.names)), Ready: true}
	if err := m.enter("status"); err != nil {
		st.Ready, st.Reason = false, err.Error()
	}
	return st
}

func (m *memory) Reserved(_ context.Context, key string) (store.Reservation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reserved[key] {
		return store.Reservation{Key: key}, nil
	}
	return store.Reservation{}, fmt.Errorf("%w: %s", store.ErrNotFound, key)
}

func (m *memory) Reserve(context.Context, store.Reservation) error { panic("not needed") }
func (m *memory) Unreserve(context.Context, string) error          { panic("not needed") }
func (m *memory) ListReservations(context.Context) ([]store.Reservation, error) {
	panic("not needed")
}
