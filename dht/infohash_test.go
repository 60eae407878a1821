package dht_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jirani/jirani/dht"
)

func TestInfoHashText(t *testing.T) {
	t.Parallel()
	h := dht.HashText("hello")
	const text = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
	if h.String() != text {
		t.Errorf("String = %s", h)
	}
	for _, s := range []string{text, strings.ToUpper(text)} {
		if got, err := dht.ParseInfoHash(s); err != nil || got != h {
			t.Errorf("ParseInfoHash(%s) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", text[:39], text + "0", strings.Replace(text, "a", "g", 1)} {
		if got, err := dht.ParseInfoHash(s); err == nil || !got.IsZero() {
			t.Errorf("ParseInfoHash(%q) = %v, %v", s, got, err)
		}
	}
	if _, err := dht.ParsePkID(text); err == nil {
		t.Error("a short id read as a long one")
	}
}

// Bits and distances agree with a plain loop over 160 bits.
func TestInfoHashBits(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	random := func() (h dht.InfoHash) {
		for i := range h {
			h[i] = byte(rng.Uint32() & (rng.Uint32() >> 8)) // many zero bits
		}
		return h
	}
	for range 1000 {
		a, b, c := random(), random(), random()
		if rng.IntN(2) == 0 {
			copy(b[:rng.IntN(20)], a[:])
		}
		common, low := 0, -1
		for common < 160 && a.Bit(common) == b.Bit(common) {
			common++
		}
		for n := range 160 {
			if a.Bit(n) {
				low = n
			}
		}
		if got := a.CommonBits(b); got != common {
			t.Fatalf("CommonBits(%v, %v) = %d, want %d", a, b, got, common)
		}
		if got := a.LowBit(); got != low {
			t.Fatalf("LowBit(%v) = %d, want %d", a, got, low)
		}
		if got, want := a.CloserTo(b, c), a.Distance(b).Compare(a.Distance(c)); got != want {
			t.Fatalf("%v.CloserTo(%v, %v) = %d, want %d", a, b, c, got, want)
		}
		n := rng.IntN(160)
		d := a
		d.SetBit(n, !a.Bit(n))
		if d.Bit(n) == a.Bit(n) || d.CommonBits(a) != n {
			t.Fatalf("SetBit(%d) of %v gives %v", n, a, d)
		}
	}
	if (dht.InfoHash{}).LowBit() != -1 || (dht.InfoHash{}).CommonBits(dht.InfoHash{}) != 160 {
		t.Error("zero hash")
	}
}
