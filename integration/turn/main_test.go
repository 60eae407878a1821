package turn

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/turnserver"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		program.Clean()
		os.Exit(code)
	}))
}

const sharedSecret = "north"

// serve runs a server with every transport on both loopback addresses until the test ends.
func serve(t *testing.T) *turnserver.Server {
	t.Helper()
	dir := t.TempDir()
	cert, err := certs.SelfSigned(time.Now(), time.Hour, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := certs.WriteFiles(dir, cert)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(sharedSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := turnserver.Default()
	cfg.Listeners = nil
	for _, ip := range []string{"127.0.0.1", "::1"} {
		any := netip.AddrPortFrom(netip.MustParseAddr(ip), 0)
		cfg.Listeners = append(cfg.Listeners, turnserver.ListenerConfig{Address: any, Transports: []string{"udp", "tcp"}},
			turnserver.ListenerConfig{Address: any, Transports: []string{"tls", "dtls"}})
	}
	cfg.TLS.CertFile, cfg.TLS.KeyFile = certFile, keyFile
	cfg.Relay.TCPConnect, cfg.Relay.LegacyChannels = true, true // coturn's client wants both
	cfg.Realms[0].SharedSecrets = []config.SecretFile{config.SecretFile(secret)}
	cfg.ShutdownTimeout = 0
	s, err := turnserver.New(t.Context(), cfg, turnserver.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// portOf returns the port of a transport on an address.
func portOf(t *testing.T, s *turnserver.Server, transport, ip string) string {
	t.Helper()
	for _, a := range s.Addrs(transport) {
		if a.Addr().String() == ip {
			return strconv.Itoa(int(a.Port()))
		}
	}
	t.Fatalf("no %s listener on %s", transport, ip)
	return ""
}
