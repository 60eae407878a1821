//go:build linux

package firstlight

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"sync"

	"github.com/jirani/jirani/internal/natlab"
)

// nameStub is a name server of thirty lines for the baseline, since upstream's is not public. It checks nothing and
// forgets nothing until the test ends.
type nameStub struct {
	server *http.Server

	mu     sync.Mutex
	byName map[string]registration
	byAddr map[string]string
}

// registration is the body of POST /name/{name}.
type registration struct {
	Addr      string `json:"addr"`
	Owner     string `json:"owner"`
	Signature string `json:"signature"`
	PublicKey string `json:"publickey"`
}

func newNameStub() *nameStub {
	return &nameStub{byName: map[string]registration{}, byAddr: map[string]string{}}
}

// start serves at addr of the machine until stop.
func (n *nameStub) start(m *natlab.Machine, addr netip.AddrPort) error {
	ln, err := m.Listen(addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /name/{name}", n.name)
	mux.HandleFunc("GET /addr/{addr}", n.addr)
	mux.HandleFunc("POST /name/{name}", n.register)
	n.server = &http.Server{Handler: mux}
	go n.server.Serve(ln) // until stop
	return nil
}

func (n *nameStub) stop() {
	if n.server != nil {
		n.server.Shutdown(context.Background())
		n.server = nil
	}
}

func (n *nameStub) name(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	reg, ok := n.byName[r.PathValue("name")]
	n.mu.Unlock()
	if !ok {
		answer(w, http.StatusNotFound, map[string]any{"error": "no such name"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"name": r.PathValue("name"), "addr": reg.Addr,
		"publickey": reg.PublicKey, "signature": reg.Signature})
}

func (n *nameStub) addr(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	name, ok := n.byAddr[r.PathValue("addr")]
	n.mu.Unlock()
	if !ok {
		answer(w, http.StatusNotFound, map[string]any{"error": "no such address"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"name": name})
}

func (n *nameStub) register(w http.ResponseWriter, r *http.Request) {
	var reg registration
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&reg); err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"success": false})
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	name := r.PathValue("name")
	if old, taken := n.byName[name]; taken && old.Addr != reg.Addr {
		answer(w, http.StatusForbidden, map[string]any{"success": false})
		return
	}
	n.byName[name], n.byAddr[reg.Addr] = reg, name
	answer(w, http.StatusOK, map[string]any{"success": true})
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
