package dhtnode_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/dht/wire"
)

// TestCreationTimes: a put that tells its age has what is left of its value's life, and one whose value would be over by our clock a whole
// one: the clocks differ.
func TestCreationTimes(t *testing.T) {
	const lifetime = 10 * time.Minute // of user data
	tests := []struct {
		name      string
		age, want time.Duration // want is how long it must live, to a second
	}{
		{"new", 0, lifetime},
		{"handed on", 6 * time.Minute, 4 * time.Minute},
		{"our clock is ahead", time.Hour, lifetime},
		{"our clock is behind", -time.Hour, lifetime},
		{"theirs is at zero", 40 * 365 * 24 * time.Hour, lifetime},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
				key := dht.HashText("k")
				pkt := wire.Packet{Kind: wire.Put, TID: 1, ID: stranger, InfoHash: key, Token: p.token(stranger)}
				pkt.HasCreated, pkt.Created = true, time.Now().Add(-tt.age).Unix()
				pkt.SetValues([][]byte{(&dht.Value{ID: 1, Data: []byte("v")}).Append(nil)})
				p.ask(pkt.Append(nil))
				held := func() bool {
					synctest.Wait()
					return n.Stats().Storage.Values == 1
				}
				dhttest.Pass(tt.want - 2*time.Second)
				if !held() {
					t.Errorf("gone before %v", tt.want)
				}
				dhttest.Pass(4 * time.Second)
				if held() {
					t.Errorf("still there after %v", tt.want)
				}
			})
		})
	}
}
