package nameserver

import (
	"crypto/tls"
	"net"
	"slices"

	"github.com/jirani/jirani/internal/certs"
)

// newTLSListener serves HTTP/1.1 only: clients send one request a connection,
// and HTTP/2's state per connection would be spent for nothing. ACME's own
// protocol is kept.
func newTLSListener(ln net.Listener, m *certs.Manager) net.Listener {
	cfg := m.TLSConfig().Clone()
	cfg.NextProtos = append([]string{"http/1.1"}, slices.DeleteFunc(slices.Clone(cfg.NextProtos), func(p string) bool {
		return p == "h2" || p == "http/1.1"
	})...)
	return tls.NewListener(ln, cfg)
}
