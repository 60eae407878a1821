package registry

import (
	"errors"
	"fmt"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledger/logtree"
	"github.com/jirani/jirani/nameserver/ledger/prefixtree"
)

// ErrInconsistent says that a log breaks its own rules: hashes that do not
// match, a name bound twice, a wrong map root, time running backwards.
var ErrInconsistent = errors.New("registry: log is inconsistent")

// head is what has to be known of a log to extend it.
type head struct {
	edge    logtree.Edge
	millis  ledger.Millis
	vkeys   []string // in the order of the log; the last is in force
	names   int64    // registrations
	mapRoot ledger.Hash
	rootRaw []byte // the MapRoot entry that is the last leaf
	policy  ledger.Hash

	imported ledger.Import // the last, without its time
}

func (h *head) vkey() string {
	if len(h.vkeys) == 0 {
		return ""
	}
	return h.vkeys[len(h.vkeys)-1]
}

// stage extends a head by entries, checking every rule of the log on the way.
// Nothing of it is seen by readers before commit.
type stage struct {
	head
	origin string
	fetch  logtree.Fetch
	log    *logtree.Appender
	tx     *prefixtree.Tx
	// bulk leaves out the comparison of map roots but for the last; a cold
	// start does that over its own store.
	bulk   bool
	items  []prefixtree.Item
	spare  []prefixtree.Item // what items was before, in bulk mode
	behind chan error        // result of an insertion under way; nil: none
	root   *ledger.MapRoot   // the last entry, if it is one
	keybuf []ledger.MapKey
}

func newStage(h head, origin string, tree *prefixtree.Tree, fetch logtree.Fetch) *stage {
	return &stage{head: h, origin: origin, fetch: fetch, log: h.edge.Append(), tx: tree.Begin()}
}

func (s *stage) rollback() {
	_ = s.join() // its result does not matter any more
	s.tx.Rollback()
}

func (s *stage) size() int64 { return s.log.Size() }

// bulkItems bounds the keys held back in bulk mode, 80 bytes each: the more go
// in together, the fewer nodes are made twice. Tests set it.
var bulkItems = 1 << 22

func parseAt(index int64, data []byte) (ledger.Entry, error) {
	e, err := ledger.ParseEntry(data)
	if err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", ErrInconsistent, index, err)
	}
	return e, nil
}

// add appends an encoded entry.
func (s *stage) add(data []byte) (ledger.Entry, error) {
	e, err := parseAt(s.size(), data)
	if err != nil {
		return nil, err
	}
	return e, s.addParsed(e, data, ledger.LeafHash(data))
}

func (s *stage) addParsed(e ledger.Entry, data []byte, leaf ledger.Hash) error {
	index := s.size()
	ms := ledger.Millis(e.Time().UnixMilli())
	if ms < s.millis {
		return fmt.Errorf("%w: time of entry %d runs backwards", ErrInconsistent, index)
	}
	s.millis, s.root = ms, nil
	var err error
	switch e := e.(type) {
	case *ledger.MapRoot:
		err = s.closeBatch(e, data)
	case *ledger.Key:
		err = s.addKey(e)
	case *ledger.Policy:
		s.policy = e.Hash
	case *ledger.Import:
		s.imported = ledger.Import{Origin: e.Origin, Size: e.Size, Root: e.Root}
	default:
		err = s.addMapped(e, index, leaf)
	}
	if err != nil {
		return err
	}
	s.log.Add(leaf)
	return nil
}

func (s *stage) addKey(e *ledger.Key) error {
	if err := e.Verify(s.origin, s.vkey()); err != nil {
		return fmt.Errorf("%w: entry %d: %w", ErrInconsistent, s.size(), err)
	}
	s.vkeys = append(s.vkeys[:len(s.vkeys):len(s.vkeys)], e.VKey)
	return nil
}

func (s *stage) addMapped(e ledger.Entry, index int64, leaf ledger.Hash) error {
	_, isRegister := e.(*ledger.Register)
	s.keybuf = ledger.MapKeys(s.keybuf[:0], e)
	for i, k := range s.keybuf {
		s.items = append(s.items, prefixtree.Item{Key: k, Index: index, EntryHash: leaf, Tag: i == 1, Once: isRegister})
	}
	if isRegister {
		s.names++
	}
	if s.bulk && len(s.items) >= bulkItems {
		return s.flushBehind()
	}
	return nil
}

// flush enters the keys held back into the map. It is here that a name or
// address bound a second time shows.
func (s *stage) flush() error {
	if err := s.join(); err != nil {
		return err
	}
	err := s.insert(s.items, s.size())
	s.items = s.items[:0]
	return err
}

// flushBehind does so while the caller goes on, who does not look at the map
// before the next flush.
func (s *stage) flushBehind() error {
	if err := s.join(); err != nil {
		return err
	}
	items, size, done := s.items, s.size(), make(chan error, 1)
	s.items, s.spare, s.behind = s.spare[:0], items, done
	go func() { done <- s.insert(items, size) }() // ends before join returns
	return nil
}

// join waits for the insertion under way.
func (s *stage) join() error {
	if s.behind == nil {
		return nil
	}
	err := <-s.behind
	s.behind = nil
	return err
}

func (s *stage) insert(items []prefixtree.Item, size int64) error {
	if err := s.tx.Insert(items...); err != nil {
		return fmt.Errorf("%w: entries up to %d: %w", ErrInconsistent, size, err)
	}
	return nil
}

func (s *stage) closeBatch(e *ledger.MapRoot, data []byte) error {
	if e.Size != uint64(s.size()) {
		return fmt.Errorf("%w: map root at %d says size %d", ErrInconsistent, s.size(), e.Size)
	}
	s.root, s.mapRoot = e, e.Root
	s.rootRaw = append([]byte(nil), data...)
	if s.bulk {
		return nil
	}
	return s.checkMap(e)
}

func (s *stage) checkMap(e *ledger.MapRoot) error {
	if err := s.flush(); err != nil {
		return err
	}
	if got := s.tx.Root(); got != e.Root || uint64(s.tx.Len()) != e.Count {
		return fmt.Errorf("%w: map root at %d is %v over %d keys, the log gives %v over %d", ErrInconsistent, e.Size, e.Root, e.Count, got, s.tx.Len())
	}
	return nil
}

// mapRootEntry makes the entry that closes the batch as it stands.
func (s *stage) mapRootEntry() (*ledger.MapRoot, error) {
	if err := s.flush(); err != nil {
		return nil, err
	}
	return &ledger.MapRoot{Millis: s.millis, Size: uint64(s.size()), Count: uint64(s.tx.Len()), Root: s.tx.Root()}, nil
}

// finish checks that the last entry closes a batch and returns the log's root.
func (s *stage) finish() (ledger.Hash, error) {
	if s.root == nil {
		return ledger.Hash{}, fmt.Errorf("%w: last entry at %d is no map root", ErrInconsistent, s.size()-1)
	}
	if s.bulk {
		if err := s.checkMap(s.root); err != nil {
			return ledger.Hash{}, err
		}
	}
	return s.log.Root(s.fetch)
}

// result returns the extended head.
func (s *stage) result() head {
	h := s.head
	h.edge = s.log.Edge()
	return h
}
