package turnclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v3"
)

// The requests of a Jami client (docs/protocols/turn-usage.md §4, measured): the first has REQUESTED-TRANSPORT and SOFTWARE only, no
// fingerprint; the second adds the credentials.
func TestRequestsLikeJami(t *testing.T) {
	for protocol, allocate := range map[byte]func(ctx context.Context, c *Client) error{
		protocolUDP: func(ctx context.Context, c *Client) error { _, err := c.Allocate(ctx, Options{}); return err },
		protocolTCP: func(ctx context.Context, c *Client) error { _, err := c.AllocateTCP(ctx, Options{}); return err },
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s, _ := play(t, TCP, Config{Software: "jirani"})
			err := during(func() error { return allocate(t.Context(), c) }, func() {
				first := s.request(stun.MethodAllocate)
				v, _ := first.Get(stun.AttrRequestedTransport)
				if want := []stun.AttrType{stun.AttrRequestedTransport, stun.AttrSoftware}; !slices.Equal(types(first), want) || !bytes.Equal(v, []byte{protocol, 0, 0, 0}) {
					t.Errorf("first request has %v, transport %x; want %v, %d", types(first), v, want, protocol)
				}
				s.challenge(first, stun.CodeUnauthorized)
				second := s.authenticated(stun.MethodAllocate)
				want := []stun.AttrType{stun.AttrUsername, stun.AttrMessageIntegrity, stun.AttrRealm, stun.AttrNonce, stun.AttrRequestedTransport, stun.AttrSoftware}
				if !slices.Equal(types(second), want) {
					t.Errorf("second request has %v, want %v", types(second), want)
				}
				s.succeed(second, granted(10*time.Minute)...)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFamilies(t *testing.T) {
	for family, want := range map[Family]*stun.RawAttribute{
		SameFamily: nil,
		IPv6:       {Type: stun.AttrRequestedAddressFamily, Value: []byte{2, 0, 0, 0}},
		Both:       {Type: attrAdditionalAddressFamily, Value: []byte{2, 0, 0, 0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s, _ := play(t, UDP, Config{})
			second := netip.MustParseAddrPort("[2001:db8::1]:50002")
			var a *Allocation
			err := during(func() (err error) { a, err = c.Allocate(t.Context(), Options{Family: family}); return err }, func() {
				m := s.request(stun.MethodAllocate)
				for _, t6 := range []stun.AttrType{stun.AttrRequestedAddressFamily, attrAdditionalAddressFamily} {
					v, err := m.Get(t6)
					if has := err == nil; has != (want != nil && want.Type == t6) || has && !bytes.Equal(v, want.Value) {
						t.Errorf("family %d: %v is %x, %v", family, t6, v, err)
					}
				}
				s.challenge(m, stun.CodeUnauthorized)
				s.succeed(s.authenticated(stun.MethodAllocate), append(granted(time.Minute), xor(stun.AttrXORRelayedAddress, second))...)
			})
			if err != nil || !slices.Equal(a.Relayed(), []netip.AddrPort{relayed, second}) || a.Mapped() != mapped {
				t.Errorf("Allocate = %v, %v", a, err)
			}
		})
	}
}

// An allocation is refreshed a minute before it expires, or every KeepAlive, and given back at the end.
func TestRefresh(t *testing.T) {
	for keepAlive, want := range map[time.Duration]time.Duration{0: 9 * time.Minute, 30 * time.Second: 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			a, s := withAllocation(t, UDP, Config{KeepAlive: keepAlive})
			for i := range 3 {
				m := s.authenticated(stun.MethodRefresh)
				if at := time.Since(began); at != time.Duration(i+1)*want || m.Contains(stun.AttrLifetime) {
					t.Errorf("refresh %d at %v with %v, want every %v", i, at, types(m), want)
				}
				s.succeed(m, lifetimeAttr(10*time.Minute))
			}
			err := during(a.Close, func() {
				m := s.authenticated(stun.MethodRefresh)
				if v, _ := m.Get(stun.AttrLifetime); !bytes.Equal(v, make([]byte, 4)) {
					t.Errorf("Close sent lifetime %x, want 0", v)
				}
				s.succeed(m, lifetimeAttr(0))
			})
			if err != nil || !errors.Is(a.Err(), net.ErrClosed) {
				t.Errorf("Close: %v, then %v", err, a.Err())
			}
		})
	}
}

// Close does not wait long for a server that has gone.
func TestCloseWithoutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := withAllocation(t, UDP, Config{})
		began := time.Now()
		if err := a.Close(); err == nil || time.Since(began) != closePatience {
			t.Errorf("Close: %v after %v, want an error after %v", err, time.Since(began), closePatience)
		}
	})
}

// A server that no longer answers, or no longer knows the allocation, ends it with the reason.
func TestAllocationLost(t *testing.T) {
	for name, tt := range map[string]struct {
		server func(s *script)
		lost   func(error) bool
		after  time.Duration
	}{
		"silence": {func(s *script) {}, func(err error) bool { return errors.Is(err, ErrTimeout) }, 9*time.Minute + 39500*time.Millisecond},
		"restart": {func(s *script) {
			m := s.authenticated(stun.MethodRefresh)
			s.nonce = "another"
			s.challenge(m, stun.CodeStaleNonce)
			s.refuse(s.authenticated(stun.MethodRefresh), stun.CodeAllocMismatch, signed)
		}, func(err error) bool { return hasCode(err, stun.CodeAllocMismatch) }, 9 * time.Minute},
		"user removed": {func(s *script) { s.challenge(s.authenticated(stun.MethodRefresh), stun.CodeUnauthorized) },
			func(err error) bool { return hasCode(err, stun.CodeUnauthorized) }, 9 * time.Minute},
		"refused": {func(s *script) { s.refuse(s.authenticated(stun.MethodRefresh), stun.CodeForbidden, signed) },
			func(err error) bool { return hasCode(err, stun.CodeForbidden) }, 9 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				a, s := withAllocation(t, UDP, Config{})
				_, _, err := func() (int, net.Addr, error) {
					go tt.server(s)
					return a.ReadFrom(make([]byte, 10))
				}()
				if took := time.Since(began); !tt.lost(err) || took != tt.after {
					t.Errorf("ReadFrom: %v after %v, want that after %v", err, took, tt.after)
				}
				if _, err := a.WriteTo(nil, net.UDPAddrFromAddrPort(peerA)); !tt.lost(err) {
					t.Errorf("WriteTo: %v", err)
				}
			})
		})
	}
}

// After an ICMP error the server is asked at once, and not with every further one.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s := withAllocation(t, UDP, Config{})
		began := time.Now()
		for range 10 {
			a.c.refused(errors.New("connection refused"))
			synctest.Wait()
		}
		s.succeed(s.authenticated(stun.MethodRefresh), lifetimeAttr(10*time.Minute))
		a.c.refused(errors.New("connection refused"))
		s.succeed(s.authenticated(stun.MethodRefresh), lifetimeAttr(10*time.Minute))
		if took := time.Since(began); took != 9*time.Minute {
			t.Errorf("second refresh after %v", took)
		}
	})
}

// All permissions go in one request and are renewed together before they end.
func TestPermissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s := withAllocation(t, UDP, Config{})
		began := time.Now()
		err := during(func() error { return a.CreatePermission(t.Context(), peerA, peerB) }, func() {
			m := s.authenticated(stun.MethodCreatePermission)
			if got, err := addresses(m, stun.AttrXORPeerAddress); !slices.Equal(got, []netip.AddrPort{peerA, peerB}) {
				t.Errorf("CreatePermission for %v, %v", got, err)
			}
			s.succeed(m)
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			m := s.authenticated(stun.MethodCreatePermission)
			got, _ := addresses(m, stun.AttrXORPeerAddress)
			if at := time.Since(began); at != time.Duration(i+1)*renewAfter || len(got) != 2 || got[0].Addr() != peerA.Addr() {
				t.Errorf("renewal at %v for %v", at, got)
			}
			s.succeed(m)
		}
	})
}

// If a request for several is forbidden, each is asked for alone, also at a renewal.
func TestPermissionRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s := withAllocation(t, UDP, Config{})
		forbid := func(forbidden netip.Addr) {
			for range 3 {
				m := s.authenticated(stun.MethodCreatePermission)
				all, _ := addresses(m, stun.AttrXORPeerAddress)
				if slices.ContainsFunc(all, func(p netip.AddrPort) bool { return p.Addr() == forbidden }) {
					s.refuse(m, stun.CodeForbidden, signed)
				} else {
					s.succeed(m)
				}
			}
		}
		err := during(func() error { return a.CreatePermission(t.Context(), peerA, peerB) }, func() { forbid(peerA.Addr()) })
		if !hasCode(err, stun.CodeForbidden) {
			t.Errorf("CreatePermission: %v, want 403", err)
		}
		if _, err := a.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(peerA)); !errors.Is(err, ErrNoPermission) {
			t.Errorf("WriteTo the forbidden peer: %v, want %v", err, ErrNoPermission)
		}
		if _, err := a.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(peerB)); err != nil {
			t.Errorf("WriteTo the other peer: %v", err)
		}
		s.request(stun.MethodSend)
		s.refuse(s.authenticated(stun.MethodCreatePermission), stun.CodeForbidden, signed) // the renewal
		synctest.Wait()
		if _, err := a.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(peerB)); !errors.Is(err, ErrNoPermission) || a.Err() != nil {
			t.Errorf("WriteTo after the server has taken the permission back: %v, want %v; allocation: %v", err, ErrNoPermission, a.Err())
		}
		m := s.authenticated(stun.MethodRefresh) // nothing else is renewed until then
		s.succeed(m, lifetimeAttr(10*time.Minute))
	})
}

func TestTooManyPermissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s := withAllocation(t, UDP, Config{})
		var peers []netip.AddrPort
		for i := range maxPermissions + 1 {
			peers = append(peers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 1))
		}
		if err := a.CreatePermission(t.Context(), peers...); !errors.Is(err, ErrTooMany) || len(s.frames) != 0 {
			t.Errorf("CreatePermission for %d: %v, want %v", len(peers), err, ErrTooMany)
		}
		err := during(func() error { return a.CreatePermission(t.Context(), peers[1:]...) }, func() {
			for range maxPermissions / peersAtOnce {
				s.succeed(s.authenticated(stun.MethodCreatePermission))
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func dataIndication(from netip.AddrPort, data string) *stun.Message {
	return message(stun.MethodData, stun.ClassIndication, xor(stun.AttrXORPeerAddress, from), bytesAttr(stun.AttrData, []byte(data)...))
}

// Datagrams travel in indications, and in ChannelData once a channel is bound; on streams that is padded.
func TestData(t *testing.T) {
	for _, transport := range []Transport{UDP, TCP} {
		synctest.Test(t, func(t *testing.T) {
			a, s := withAllocation(t, transport, Config{})
			err := during(func() error { return a.CreatePermission(t.Context(), peerA) }, func() {
				m := s.authenticated(stun.MethodCreatePermission)
				s.succeed(m)
				s.write(dataIndication(peerA, "right behind the answer").Raw)
			})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, a, peerA, "right behind the answer")
			a.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(peerA))
			m := s.request(stun.MethodSend)
			data, _ := m.Get(stun.AttrData)
			if to, _ := address(m, stun.AttrXORPeerAddress); to != peerA || string(data) != "hello" || m.Type.Class != stun.ClassIndication {
				t.Errorf("%v: sent %q to %v", transport, data, to)
			}

			s.write(dataIndication(peerB, "no permission").Raw)
			s.write(message(stun.MethodData, stun.ClassIndication, xor(stun.AttrXORPeerAddress, peerA)).Raw) // no data
			s.write(appendChannelData(nil, 0x4001, []byte("no channel"), a.c.server.Transport.stream()))
			began := time.Now()
			err = during(func() error { return a.BindChannel(t.Context(), peerB) }, func() {
				m := s.authenticated(stun.MethodChannelBind)
				if v, _ := m.Get(stun.AttrChannelNumber); !bytes.Equal(v, []byte{0x40, 0, 0, 0}) {
					t.Errorf("ChannelBind of %x, want 4000 0000", v)
				}
				s.succeed(m)
				s.write(appendChannelData(nil, 0x4000, []byte("by channel"), a.c.server.Transport.stream()))
			})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, a, peerB, "by channel")
			for size := range 5 {
				a.WriteTo(bytes.Repeat([]byte{7}, size), net.UDPAddrFromAddrPort(peerB))
				want := append([]byte{0x40, 0, 0, byte(size)}, bytes.Repeat([]byte{7}, size)...)
				if transport == TCP {
					want = append(want, make([]byte, -size&3)...)
				}
				if got := <-s.frames; !bytes.Equal(got, want) {
					t.Errorf("%v: sent %x, want %x", transport, got, want)
				}
			}
			if ignored := a.c.Ignored(); ignored != 3 {
				t.Errorf("%v: %d frames ignored, want 3", transport, ignored)
			}
			s.succeed(s.authenticated(stun.MethodCreatePermission))
			s.refuse(s.authenticated(stun.MethodChannelBind), stun.CodeForbidden, signed) // the renewal
			synctest.Wait()
			if _, err := a.WriteTo(nil, net.UDPAddrFromAddrPort(peerB)); !errors.Is(err, ErrNoPermission) || time.Since(began) != renewAfter {
				t.Errorf("%v: WriteTo a channel that has ended after %v: %v", transport, time.Since(began), err)
			}
		})
	}
}

func expect(t *testing.T, a *Allocation, from netip.AddrPort, data string) {
	t.Helper()
	b := make([]byte, 100)
	if n, addr, err := a.ReadFrom(b); err != nil || string(b[:n]) != data || addr.String() != from.String() {
		t.Errorf("ReadFrom = %q from %v, %v; want %q from %v", b[:n], addr, err, data, from)
	}
}

// What nobody reads is dropped beyond a bound.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s := withAllocation(t, UDP, Config{})
		if err := during(func() error { return a.CreatePermission(t.Context(), peerA) },
			func() { s.succeed(s.authenticated(stun.MethodCreatePermission)) }); err != nil {
			t.Fatal(err)
		}
		for i := range maxQueued + 10 {
			s.write(dataIndication(peerA, fmt.Sprint(i)).Raw)
		}
		synctest.Wait()
		if n := a.Dropped(); n != 10 {
			t.Errorf("%d dropped, want 10", n)
		}
		for i := range maxQueued {
			expect(t, a, peerA, fmt.Sprint(i))
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := withAllocation(t, UDP, Config{})
		began := time.Now()
		read := func() error { _, _, err := a.ReadFrom(nil); return err }
		a.SetDeadline(began.Add(time.Second))
		if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("ReadFrom: %v after %v", err, time.Since(began))
		}
		synctest.Wait() // both timers end now, one after the other
		if _, err := a.WriteTo(nil, net.UDPAddrFromAddrPort(peerA)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("WriteTo: %v", err)
		}
		a.SetDeadline(time.Time{})
		if err := during(read, func() { synctest.Wait(); a.SetReadDeadline(time.Now().Add(-1)) }); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ReadFrom with a deadline set meanwhile: %v", err)
		}
		a.SetReadDeadline(time.Now().Add(time.Second))
		a.SetReadDeadline(time.Time{})
		if err := during(read, func() { time.Sleep(time.Minute); go a.Close() }); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadFrom at Close: %v", err)
		}
	})
}
