package dhtcli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
)

// printer writes results, for people or as JSON lines.
type printer struct {
	w    io.Writer
	json bool
}

func (p printer) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

func (p printer) object(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	p.line("%s", b)
}

func (p printer) pong(r dhtnode.Pong) {
	if p.json {
		p.object(map[string]any{"id": r.Node.ID, "address": r.Node.Addr, "rtt_seconds": r.RTT.Seconds()})
		return
	}
	p.line("%v  %v  %v", r.Node.ID, r.Node.Addr, r.RTT.Round(10*time.Microsecond))
}

func (p printer) node(n dht.NodeAddr) {
	if p.json {
		p.object(map[string]any{"id": n.ID, "address": n.Addr})
		return
	}
	p.line("%v  %v", n.ID, n.Addr)
}

// value prints a value; event says what happened to it, if anything did.
func (p printer) value(event string, v *dht.Value, decrypted bool) {
	if p.json {
		p.object(struct {
			Event     string     `json:"event,omitempty"`
			Decrypted bool       `json:"decrypted,omitempty"`
			Value     *dht.Value `json:"value"`
		}{event, decrypted, v})
		return
	}
	var b strings.Builder
	if event != "" {
		b.WriteString(event + " ")
	}
	fmt.Fprintf(&b, "value %v", v.ID)
	switch {
	case v.IsEncrypted():
		fmt.Fprintf(&b, " encrypted, %d bytes", len(v.Cypher))
		p.line("%s", b.String())
		return
	case v.IsSigned():
		fmt.Fprintf(&b, " signed by %v, version %d", v.Owner.ID(), v.Seq)
	}
	if decrypted {
		b.WriteString(" decrypted")
	}
	if v.Type != 0 {
		fmt.Fprintf(&b, " type %d", v.Type)
	}
	if v.UserType != "" {
		fmt.Fprintf(&b, " %s", printable([]byte(v.UserType)))
	}
	p.line("%s: %s", b.String(), printable(v.Data))
}

// printable is the text, or the hex digits if it is not text: a stranger's bytes must not steer a terminal.
func printable(b []byte) string {
	if !utf8.Valid(b) || strings.ContainsFunc(string(b), func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%x", b)
	}
	return string(b)
}

func (p printer) info(id dht.InfoHash, st dhtnode.Stats, public []netip.Addr) {
	families := []struct {
		name string
		dhtnode.FamilyStats
	}{{"ipv4", st.IPv4}, {"ipv6", st.IPv6}}
	if p.json {
		out := map[string]any{"node_id": id, "public_addresses": public}
		for _, f := range families {
			out[f.name] = map[string]any{"status": f.Status.String(), "good": f.Good, "dubious": f.Dubious,
				"network_size_estimation": f.NetworkSize}
		}
		p.object(out)
		return
	}
	p.line("node %v", id)
	for _, f := range families {
		p.line("%s  %v, %d good nodes, %d dubious, network of about %d", f.name, f.Status, f.Good, f.Dubious, f.NetworkSize)
	}
	for _, a := range public {
		p.line("others see us at %v", a)
	}
}
