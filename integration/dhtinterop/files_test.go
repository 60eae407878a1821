package dhtinterop

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/state"
	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

// An identity saved by either side is the same identity to the other.
func TestIdentityFiles(t *testing.T) {
	theirs.Require(t)
	t.Parallel()
	dir := t.TempDir()
	leaf, _, err := dhtcrypto.Generate("ours", 2048, time.Now())
	check(t, err)
	check(t, leaf.Save(filepath.Join(dir, "ours"), nil))
	node := theirs.StartNode(t, theirs.Options{Network: freshNetwork(),
		Certificate: filepath.Join(dir, "ours.crt"), PrivateKey: filepath.Join(dir, "ours.pem")})
	if want := leaf.NodeID().String(); node.ID != want {
		t.Errorf("with our identity theirs is node %s, want %s", node.ID, want)
	}

	node = theirs.StartNode(t, theirs.Options{Network: freshNetwork(), Identity: true, SaveIdentity: filepath.Join(dir, "theirs")})
	got, err := dhtcrypto.Load(filepath.Join(dir, "theirs"), nil)
	check(t, err)
	if got.NodeID().String() != node.ID || got.Key.Public().ID().String() != node.KeyID {
		t.Errorf("their identity reads as key %v, node %v; want %s, %s", got.Key.Public().ID(), got.NodeID(), node.KeyID, node.ID)
	}
}

// A state file of theirs moves to us with its values, and ours to them with node id and peers. Values written by us or
// by OpenDHT 4.3 do not move back to 2.4.12, which reads no timestamps: it starts and leaves them out.
func TestStateFiles(t *testing.T) {
	theirs.Require(t)
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "theirs.state")
	n := freshNetwork()
	peer := theirs.StartNode(t, theirs.Options{Network: n})
	node := theirs.StartNode(t, theirs.Options{Network: n, Bootstrap: local(peer.Port), State: path})
	knows(t, node, 1)
	id, err := node.PutPermanent("somewhere", "lasting")
	check(t, err)
	check(t, node.Quit())
	lifetime := dhtcrypto.Types(nil).Lifetime
	s, err := state.Load(path, time.Now(), lifetime)
	check(t, err)
	if s.ID.String() != node.ID || len(s.Nodes) == 0 || s.Nodes[0].ID.String() != peer.ID || s.Skipped != 0 {
		t.Errorf("their state: id %v, nodes %v, %d skipped", s.ID, s.Nodes, s.Skipped)
	}
	if len(s.Values) != 1 || s.Values[0].Key != dht.HashText("somewhere") || uint64(s.Values[0].Value.ID) != id ||
		string(s.Values[0].Value.Data) != "lasting" {
		t.Errorf("their state holds %+v", s.Values)
	}

	ours := &state.State{ID: dht.HashText("our node"), Nodes: s.Nodes, Values: s.Values}
	path = filepath.Join(dir, "ours.state")
	check(t, state.Save(path, ours))
	node = theirs.StartNode(t, theirs.Options{Network: n, State: path})
	if node.ID != ours.ID.String() {
		t.Errorf("with our state file theirs is node %s, want %v", node.ID, ours.ID)
	}
	knows(t, node, 1) // by the file alone
}
