package turnclient

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v3"
)

// A request that nobody answers is sent at the times of RFC 8489 §6.2.1, and is given up at its 39.5 seconds.
func TestRetransmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := play(t, UDP, Config{})
		began := time.Now()
		var sent []time.Duration
		err := during(func() error { _, err := c.Binding(t.Context()); return err }, func() {
			var first *stun.Message
			for range 7 {
				m := s.request(stun.MethodBinding)
				if first == nil {
					first = m
				}
				if m.TransactionID != first.TransactionID || stun.Fingerprint.Check(m) != nil {
					t.Errorf("sent %v after %v", m, first)
				}
				sent = append(sent, time.Since(began))
			}
		})
		want := []time.Duration{0, 500, 1500, 3500, 7500, 15500, 31500}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(sent, want) {
			t.Errorf("sent at %v, want %v", sent, want)
		}
		if took := time.Since(began); !errors.Is(err, ErrTimeout) || took != 39500*time.Millisecond {
			t.Errorf("gave up after %v with %v, want %v after 39.5s", took, err, ErrTimeout)
		}
	})
}

// On a stream nothing is repeated (RFC 8489 §6.2.2).
func TestStreamTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := play(t, TCP, Config{})
		began := time.Now()
		_, err := c.Binding(t.Context())
		if took := time.Since(began); !errors.Is(err, ErrTimeout) || took != 39500*time.Millisecond || len(s.frames) != 1 {
			t.Errorf("gave up after %v and %d messages with %v, want %v after 39.5s and one", took, len(s.frames), err, ErrTimeout)
		}
	})
}

func TestBinding(t *testing.T) {
	for _, transport := range []Transport{UDP, TCP} {
		synctest.Test(t, func(t *testing.T) {
			c, s, _ := play(t, transport, Config{})
			var got netip.AddrPort
			err := during(func() (err error) { got, err = c.Binding(t.Context()); return err }, func() {
				m := s.request(stun.MethodBinding)
				resp := answer(m, stun.ClassSuccessResponse, xor(stun.AttrXORMappedAddress, mapped), func(m *stun.Message) { _ = stun.Fingerprint.AddTo(m) })
				s.write(resp.Raw)
				if transport == UDP {
					s.write(resp.Raw) // a duplicate
				}
			})
			if err != nil || got != mapped {
				t.Errorf("%v: Binding = %v, %v; want %v", transport, got, err, mapped)
			}
		})
	}
}

// Answers that are not what they should be are passed over, and the right one counts when it comes.
func TestHostileAnswers(t *testing.T) {
	wrongKey := stun.NewLongTermIntegrity("ring", "example.org", "guess")
	for name, forge := range map[string]func(m *stun.Message) []byte{
		"another transaction": func(m *stun.Message) []byte {
			other := message(stun.MethodRefresh, stun.ClassRequest)
			return answer(other, stun.ClassSuccessResponse, lifetimeAttr(time.Minute), signed).Raw
		},
		"another method": func(m *stun.Message) []byte {
			resp := answer(m, stun.ClassSuccessResponse)
			resp.SetType(stun.NewType(stun.MethodBinding, stun.ClassSuccessResponse))
			signed(resp)
			return resp.Raw
		},
		"no integrity": func(m *stun.Message) []byte {
			return answer(m, stun.ClassSuccessResponse, lifetimeAttr(time.Minute)).Raw
		},
		"wrong integrity": func(m *stun.Message) []byte {
			return answer(m, stun.ClassSuccessResponse, lifetimeAttr(time.Minute), func(m *stun.Message) { _ = wrongKey.AddTo(m) }).Raw
		},
		"short integrity": func(m *stun.Message) []byte {
			return answer(m, stun.ClassSuccessResponse, lifetimeAttr(time.Minute), bytesAttr(stun.AttrMessageIntegrity, 1, 2, 3)).Raw
		},
		"unsigned refusal": func(m *stun.Message) []byte {
			return answer(m, stun.ClassErrorResponse, code(stun.CodeAllocMismatch)).Raw
		},
		"wrong fingerprint": func(m *stun.Message) []byte {
			return answer(m, stun.ClassSuccessResponse, lifetimeAttr(time.Minute), signed, bytesAttr(stun.AttrFingerprint, 1, 2, 3, 4)).Raw
		},
		"truncated": func(m *stun.Message) []byte {
			return answer(m, stun.ClassSuccessResponse, lifetimeAttr(time.Minute), signed).Raw[:30]
		},
		"trailing bytes": func(m *stun.Message) []byte {
			return append(answer(m, stun.ClassSuccessResponse, lifetimeAttr(time.Minute), signed).Raw, 0, 0, 0, 0)
		},
		"attribute longer than the message": func(m *stun.Message) []byte {
			resp := answer(m, stun.ClassSuccessResponse, lifetimeAttr(time.Minute), signed)
			resp.Raw[headerSize+3] = 200
			return resp.Raw
		},
		"a request": func(m *stun.Message) []byte { return m.Raw },
		"nothing":   func(m *stun.Message) []byte { return []byte{0} },
		"too long":  func(m *stun.Message) []byte { return make([]byte, 70000) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, s := withAllocation(t, UDP, Config{KeepAlive: time.Minute})
				m := s.authenticated(stun.MethodRefresh)
				s.write(forge(m))
				again := s.authenticated(stun.MethodRefresh)
				if again.TransactionID != m.TransactionID {
					t.Error("the request has been given up")
				}
				s.succeed(again, lifetimeAttr(10*time.Minute))
				synctest.Wait()
				if err := a.Err(); err != nil {
					t.Errorf("allocation ended: %v", err)
				}
			})
		})
	}
}

// When all answers are forged the error says so, at once on a stream.
func TestIntegrityViolated(t *testing.T) {
	for transport, want := range map[Transport]time.Duration{UDP: 39500 * time.Millisecond, TCP: 0} {
		synctest.Test(t, func(t *testing.T) {
			a, s := withAllocation(t, transport, Config{})
			began := time.Now()
			err := during(func() error { return a.CreatePermission(t.Context(), peerA) }, func() {
				s.write(answer(s.authenticated(stun.MethodCreatePermission), stun.ClassSuccessResponse).Raw)
			})
			// The last wait is begun after the violation, so that the error has to be remembered.
			if took := time.Since(began); !errors.Is(err, ErrIntegrity) || took != want {
				t.Errorf("%v: %v after %v, want %v after %v", transport, err, took, ErrIntegrity, want)
			}
		})
	}
}

func TestWrongPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := play(t, UDP, Config{})
		err := during(func() error { _, err := c.Allocate(t.Context(), Options{}); return err }, func() {
			s.challenge(s.request(stun.MethodAllocate), stun.CodeUnauthorized)
			s.nonce = "nonce 2"
			s.challenge(s.request(stun.MethodAllocate), stun.CodeUnauthorized)
		})
		if !hasCode(err, stun.CodeUnauthorized) {
			t.Errorf("Allocate: %v, want 401", err)
		}
		var e *Error
		if !errors.As(err, &e) || e.Class() != 4 || e.Reason != "because" || e.Method != stun.MethodAllocate {
			t.Errorf("Allocate: %+v", e)
		}
	})
}

// A stale nonce is replaced, three times in a row.
func TestStaleNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s := withAllocation(t, TCP, Config{})
		err := during(func() error { return a.CreatePermission(t.Context(), peerA) }, func() {
			m := s.authenticated(stun.MethodCreatePermission)
			s.nonce = "nonce 2"
			s.challenge(m, stun.CodeStaleNonce)
			s.succeed(s.authenticated(stun.MethodCreatePermission))
		})
		if err != nil {
			t.Errorf("CreatePermission with a stale nonce: %v", err)
		}
		err = during(func() error { return a.CreatePermission(t.Context(), peerB) }, func() {
			for range maxAttempts {
				s.challenge(s.authenticated(stun.MethodCreatePermission), stun.CodeStaleNonce)
			}
		})
		if !hasCode(err, stun.CodeStaleNonce) {
			t.Errorf("CreatePermission with nonces that are always stale: %v, want 438", err)
		}
	})
}

func TestRefusals(t *testing.T) {
	for _, c := range []stun.ErrorCode{300, 400, 403, 420, 437, 441, 442, 486, 500, 508} {
		synctest.Test(t, func(t *testing.T) {
			client, s, _ := play(t, TCP, Config{})
			err := during(func() error { _, err := client.Allocate(t.Context(), Options{}); return err }, func() {
				s.challenge(s.request(stun.MethodAllocate), stun.CodeUnauthorized)
				s.refuse(s.authenticated(stun.MethodAllocate), c,
					func(m *stun.Message) { _ = (stun.UnknownAttributes{0x7001}).AddTo(m) },
					func(m *stun.Message) {
						_ = (&stun.AlternateServer{IP: net.IPv4(192, 0, 2, 9), Port: 3479}).AddTo(m)
					}, signed)
			})
			var e *Error
			if !errors.As(err, &e) || e.Code != int(c) {
				t.Fatalf("Allocate: %v, want %d", err, c)
			}
			if e.Alternate.String() != "192.0.2.9:3479" || !slices.Equal(e.Unknown, []stun.AttrType{0x7001}) {
				t.Errorf("Allocate: %+v", e)
			}
			if _, err := client.Allocate(canceled(t), Options{}); !errors.Is(err, context.Canceled) {
				t.Errorf("the next Allocate: %v: the connection is not free", err)
			}
		})
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// An answer with an attribute that has to be understood and is not fails the request (RFC 8489 §6.3.3).
func TestUnknownAttribute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s := withAllocation(t, UDP, Config{})
		err := during(func() error { return a.CreatePermission(t.Context(), peerA) }, func() {
			s.succeed(s.authenticated(stun.MethodCreatePermission), bytesAttr(0x7001, 1, 2, 3, 4))
		})
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("CreatePermission: %v, want %v", err, ErrMalformed)
		}
	})
}

// Allocate answers without what they must have.
func TestMalformedAllocate(t *testing.T) {
	for name, attrs := range map[string][]attribute{
		"nothing":         {},
		"no relayed":      granted(time.Minute)[1:],
		"no lifetime":     granted(time.Minute)[:2],
		"lifetime 0":      granted(0),
		"relayed too cut": append([]attribute{bytesAttr(stun.AttrXORRelayedAddress, 0, 1, 2, 3, 4)}, granted(time.Minute)...),
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s, _ := play(t, UDP, Config{})
			err := during(func() error { _, err := c.Allocate(t.Context(), Options{}); return err }, func() {
				s.challenge(s.request(stun.MethodAllocate), stun.CodeUnauthorized)
				s.succeed(s.authenticated(stun.MethodAllocate), attrs...)
			})
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v, want %v", name, err, ErrMalformed)
			}
		})
	}
}

// Realm and nonce have their bounds.
func TestLongChallenge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := play(t, TCP, Config{})
		err := during(func() error { _, err := c.Allocate(t.Context(), Options{}); return err }, func() {
			s.nonce = strings.Repeat("n", maxText+1)
			s.challenge(s.request(stun.MethodAllocate), stun.CodeUnauthorized)
		})
		if !hasCode(err, stun.CodeUnauthorized) {
			t.Errorf("Allocate: %v, want 401", err)
		}
	})
}

// What the server breaks off ends everything that waits.
func TestStreamEnds(t *testing.T) {
	for name, end := range map[string]func(s *script){
		"closed":       func(s *script) { s.conn.Close() },
		"not a frame":  func(s *script) { s.write([]byte{0xff, 0xff, 0, 0}) },
		"half a frame": func(s *script) { s.write([]byte{0, 1, 0, 8, 0x21}); s.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, s := withAllocation(t, TCP, Config{})
				err := during(func() error { return a.CreatePermission(t.Context(), peerA) }, func() {
					s.authenticated(stun.MethodCreatePermission)
					end(s)
				})
				<-a.Done()
				want := io.ErrUnexpectedEOF
				if name == "not a frame" {
					want = ErrMalformed
				}
				if !errors.Is(err, want) || !errors.Is(a.Err(), want) {
					t.Errorf("request: %v, allocation: %v; want %v", err, a.Err(), want)
				}
				if _, _, err := a.ReadFrom(nil); !errors.Is(err, want) {
					t.Errorf("ReadFrom: %v, want %v", err, want)
				}
			})
		})
	}
}

// Only what comes from the server's address is heard. Where nobody listens, the error says what ICMP told.
func TestLoopbackSources(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	stranger, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	at := server.LocalAddr().(*net.UDPAddr).AddrPort()
	c, err := Dial(t.Context(), Server{"127.0.0.1", at.Port(), UDP}, Config{Timing: Timing{RTO: 20 * time.Millisecond, Rc: 3}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got netip.AddrPort
	err = during(func() (err error) { got, err = c.Binding(t.Context()); return err }, func() {
		b := make([]byte, 100)
		n, from, err := server.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		stranger.WriteTo(answer(m, stun.ClassSuccessResponse, xor(stun.AttrXORMappedAddress, peerA)).Raw, from)
		server.WriteTo(answer(m, stun.ClassSuccessResponse, xor(stun.AttrXORMappedAddress, peerB)).Raw, from)
	})
	if err != nil || got != peerB {
		t.Errorf("Binding = %v, %v; want the server's %v", got, err, peerB)
	}
	server.Close()
	if _, err := c.Binding(t.Context()); !errors.Is(err, ErrTimeout) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Binding with nobody: %v, want %v and %v", err, ErrTimeout, syscall.ECONNREFUSED)
	}
}
