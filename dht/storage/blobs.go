package storage

// Serialised values of up to maxSlot bytes live in pages that hold slots of one size and no pointers, taken from outside
// the collector's heap where the system allows, so that a node's memory is close to the sum of what it stores and not
// twice that. Larger ones are ordinary slices.

const (
	pageSize = 64 << 10
	fineStep = 16  // slot sizes are multiples of this up to fineMax
	fineMax  = 512 //
	wideStep = 64  // and of this up to maxSlot
	maxSlot  = 2048
	fines    = fineMax / fineStep
	classes  = fines + (maxSlot-fineMax)/wideStep
	bigBlob  = 1 << 63 // marks a reference into blobs.big
)

// blobs stores byte strings behind references. A slice got from it is valid until its reference is freed.
type blobs struct {
	pages    []page
	maxPages int // above this everything is an ordinary slice: few values could pin many pages
	spare    []uint32
	room     [classes][]uint32 // pages of the class with a free slot
	big      [][]byte
	bigFree  []uint32
}

type page struct {
	buf   []byte
	class int
	used  int
	next  int      // slots from here on were never used
	free  []uint16 // slots given back
}

func classOf(n int) int {
	if n <= fineMax {
		return max((n+fineStep-1)/fineStep-1, 0)
	}
	return fines + (n-fineMax+wideStep-1)/wideStep - 1
}

func slotSize(class int) int {
	if class < fines {
		return (class + 1) * fineStep
	}
	return fineMax + (class-fines+1)*wideStep
}

// put copies b and returns its reference.
func (s *blobs) put(b []byte) uint64 {
	if len(b) > maxSlot {
		return s.putBig(b)
	}
	c := classOf(len(b))
	id, ok := s.withRoom(c)
	if !ok {
		return s.putBig(b)
	}
	p := &s.pages[id]
	slot := p.next
	if k := len(p.free); k > 0 {
		slot = int(p.free[k-1])
		p.free = p.free[:k-1]
	} else {
		p.next++
	}
	p.used++
	if p.full() {
		s.room[c] = s.room[c][:len(s.room[c])-1] // withRoom took the last
	}
	off := slot * slotSize(c)
	copy(p.buf[off:], b)
	return uint64(id)<<32 | uint64(off)
}

func (p *page) full() bool { return len(p.free) == 0 && (p.next+1)*slotSize(p.class) > pageSize }

// withRoom returns the page a blob of class c goes to: the last of room[c].
func (s *blobs) withRoom(c int) (uint32, bool) {
	if k := len(s.room[c]); k > 0 {
		return s.room[c][k-1], true
	}
	var id uint32
	if k := len(s.spare); k > 0 {
		id = s.spare[k-1]
		s.spare = s.spare[:k-1]
	} else {
		if len(s.pages) >= s.maxPages {
			return 0, false
		}
		id = uint32(len(s.pages))
		s.pages = append(s.pages, page{})
	}
	p := &s.pages[id]
	if p.buf == nil {
		p.buf = newPage(pageSize)
	}
	p.class, p.used, p.next, p.free = c, 0, 0, p.free[:0]
	s.room[c] = append(s.room[c], id)
	return id, true
}

func (s *blobs) putBig(b []byte) uint64 {
	b = append(make([]byte, 0, len(b)), b...)
	if k := len(s.bigFree); k > 0 {
		i := s.bigFree[k-1]
		s.bigFree = s.bigFree[:k-1]
		s.big[i] = b
		return bigBlob | uint64(i)
	}
	s.big = append(s.big, b)
	return bigBlob | uint64(len(s.big)-1)
}

// get returns the n bytes behind ref.
func (s *blobs) get(ref uint64, n int) []byte {
	if ref&bigBlob != 0 {
		return s.big[uint32(ref)]
	}
	off := int(uint32(ref))
	return s.pages[ref>>32].buf[off : off+n : off+n]
}

// free gives ref back. An empty page can serve any class again.
func (s *blobs) free(ref uint64) {
	if ref&bigBlob != 0 {
		s.big[uint32(ref)] = nil
		s.bigFree = append(s.bigFree, uint32(ref))
		return
	}
	id := uint32(ref >> 32)
	p := &s.pages[id]
	if p.full() {
		s.room[p.class] = append(s.room[p.class], id)
	}
	p.free = append(p.free, uint16(int(uint32(ref))/slotSize(p.class)))
	if p.used--; p.used == 0 {
		s.recycle(id, p)
	}
}

// recycle takes an empty page out of its class. A few are kept, the others return to the system.
func (s *blobs) recycle(id uint32, p *page) {
	room := s.room[p.class]
	for i, o := range room {
		if o == id {
			room[i] = room[len(room)-1]
			s.room[p.class] = room[:len(room)-1]
			break
		}
	}
	if len(s.spare) >= 16 {
		dropPage(p.buf)
		p.buf, p.free = nil, nil
	}
	s.spare = append(s.spare, id)
}

// unmap returns all pages to the system.
func (s *blobs) unmap() {
	for i := range s.pages {
		if s.pages[i].buf != nil {
			dropPage(s.pages[i].buf)
		}
	}
}
