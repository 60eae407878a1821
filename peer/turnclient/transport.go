package turnclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/pion/dtls/v3"
	dtlsnet "github.com/pion/dtls/v3/pkg/net"
	"github.com/pion/stun/v3"
)

// Transport carries messages to the server.
type Transport uint8

// The transports of RFC 8656 §3.1.
const (
	UDP Transport = iota
	TCP
	TLS
	DTLS
)

var transportNames = [...]string{"udp", "tcp", "tls", "dtls"}

func (t Transport) String() string { return transportNames[t] }

// ParseTransport reads the name of a transport: udp, tcp, tls or dtls.
func ParseTransport(name string) (Transport, error) {
	for i, n := range transportNames {
		if n == name {
			return Transport(i), nil
		}
	}
	return 0, fmt.Errorf("turnclient: %q is none of udp, tcp, tls, dtls", name)
}

// stream reports whether messages follow one another without bounds.
func (t Transport) stream() bool { return t == TCP || t == TLS }

func (t Transport) network() string {
	if t.stream() {
		return "tcp"
	}
	return "udp"
}

// Server is where a TURN server is.
type Server struct {
	Host      string // name or IP address
	Port      uint16
	Transport Transport
}

// Address is host and port, as package net wants them.
func (s Server) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))) }

func (s Server) String() string { return s.Transport.String() + ":" + s.Address() }

// ParseURI reads a turn: or turns: URI (RFC 7065), such as turn:relay.example.org:3478?transport=tcp. What is written without a scheme, as
// in Jami's settings, is taken for a turn: URI. turns: is TLS, or DTLS with transport=udp.
func ParseURI(s string) (Server, error) {
	if !strings.HasPrefix(s, "turn:") && !strings.HasPrefix(s, "turns:") {
		s = "turn:" + s
	}
	u, err := stun.ParseURI(s)
	if err != nil {
		return Server{}, fmt.Errorf("turnclient: %q is no TURN URI: %v", s, err)
	}
	if u.Host == "" || u.Port < 1 || u.Port > 65535 {
		return Server{}, fmt.Errorf("turnclient: %q names no host and port", s)
	}
	server := Server{Host: u.Host, Port: uint16(u.Port)}
	if u.Proto == stun.ProtoTypeTCP {
		server.Transport = TCP
	}
	if u.IsSecure() {
		server.Transport = map[Transport]Transport{UDP: DTLS, TCP: TLS}[server.Transport]
	}
	return server, nil
}

// connect makes a connection to the server and completes its handshakes. Its errors wrap those of packages net, tls and dtls.
func connect(ctx context.Context, cfg Config, server Server, refused func(error)) (net.Conn, error) {
	conn, err := cfg.Dial(ctx, server.Transport.network(), server.Address())
	if err != nil {
		return nil, fmt.Errorf("turnclient: connect: %w", err)
	}
	if !server.Transport.stream() {
		conn = &datagrams{Conn: conn, refused: refused}
	}
	secure, handshake := conn, func(context.Context) error { return nil }
	switch server.Transport {
	case TLS:
		c := tls.Client(conn, cfg.tls(server))
		secure, handshake = c, c.HandshakeContext
	case DTLS:
		c, err := dtls.ClientWithOptions(dtlsnet.PacketConnFromConn(conn), conn.RemoteAddr(), dtlsOptions(cfg.tls(server))...)
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("turnclient: DTLS: %w", err)
		}
		secure, handshake = c, c.HandshakeContext
	}
	if err := handshake(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("turnclient: %v handshake: %w", server.Transport, err)
	}
	return secure, nil
}

// tls is the configuration for a server whose certificate has to be for its host, unless it says otherwise.
func (c Config) tls(server Server) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLS != nil {
		cfg = c.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = server.Host
	}
	return cfg
}

// dtlsOptions takes over what DTLS has in common with TLS.
func dtlsOptions(cfg *tls.Config) []dtls.ClientOption {
	options := []dtls.ClientOption{dtls.WithServerName(cfg.ServerName), dtls.WithInsecureSkipVerify(cfg.InsecureSkipVerify),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret)}
	if cfg.RootCAs != nil {
		options = append(options, dtls.WithRootCAs(cfg.RootCAs))
	}
	if len(cfg.Certificates) > 0 {
		options = append(options, dtls.WithCertificates(cfg.Certificates...))
	}
	return options
}

// datagrams is a connected UDP socket that ICMP errors do not end: who is not there now may be there at the next try, and anybody can send
// one. They are told to refused.
type datagrams struct {
	net.Conn
	refused func(error)
	closed  atomic.Bool
}

func (d *datagrams) Close() error {
	d.closed.Store(true)
	return d.Conn.Close()
}

func (d *datagrams) Read(b []byte) (int, error) {
	for {
		n, err := d.Conn.Read(b)
		if !d.transient(err) {
			return n, err
		}
	}
}

func (d *datagrams) Write(b []byte) (int, error) {
	n, err := d.Conn.Write(b)
	if d.transient(err) {
		return len(b), nil // lost, as any datagram may be
	}
	return n, err
}

// transient reports whether err is what the kernel has learnt from ICMP or its routes.
func (d *datagrams) transient(err error) bool {
	var errno syscall.Errno
	if err == nil || d.closed.Load() || !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.EPERM, syscall.ENOBUFS:
		d.refused(err)
		return true
	}
	return false
}
