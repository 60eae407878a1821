package dhtcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
)

func ping(ctx context.Context, s *session) error {
	addrs, err := resolve(ctx, s.args[0])
	if err != nil {
		return err
	}
	for _, a := range addrs {
		pong, e := s.node.Ping(ctx, a)
		if e != nil {
			err = fmt.Errorf("%v: %w", a, e)
			continue
		}
		s.out.pong(pong)
		return nil
	}
	return err
}

// resolve turns host[:port] into addresses, port 4222 if none.
func resolve(ctx context.Context, s string) (addrs []netip.AddrPort, err error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a, dhtnode.DefaultPort)}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, strconv.Itoa(dhtnode.DefaultPort)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, misused("%q is not HOST[:PORT]", s)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range ips {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), uint16(n)))
	}
	return addrs, err
}

func find(ctx context.Context, s *session) error {
	nodes, err := s.node.Find(ctx, keyOf(s.args[0]))
	for _, n := range nodes {
		s.out.node(n)
	}
	return err
}

func get(ctx context.Context, s *session) error {
	var q dht.Query
	if s.id != 0 {
		q.Where = append(q.Where, dht.WhereID(dht.ValueID(s.id)))
	}
	if s.userType != "" {
		q.Where = append(q.Where, dht.WhereUserType(s.userType))
	}
	found := 0
	err := s.node.Get(ctx, keyOf(s.args[0]), q, func(v *dht.Value) bool {
		found++
		s.show("", v)
		return true
	})
	if err == nil && found == 0 && !s.json {
		s.out.line("no value")
	}
	return err
}

// show prints a value, opened if it is encrypted to us.
func (s *session) show(event string, v *dht.Value) {
	opened, err := s.node.Open(v)
	if err != nil {
		opened = v
	}
	s.out.value(event, opened, v.IsEncrypted() && err == nil)
}

func put(ctx context.Context, s *session) error {
	v := &dht.Value{ID: dht.ValueID(s.id), Type: dht.ValueTypeID(s.typ), UserType: s.userType, Data: []byte(s.args[1])}
	if v.UserType == "" {
		v.UserType = "text/plain"
	}
	if s.args[1] == "-" {
		b, err := io.ReadAll(io.LimitReader(s.in, maxInput+1))
		if err != nil {
			return err
		}
		v.Data = b
	}
	if v.Size() > dht.MaxValueSize {
		return fmt.Errorf("a value of more than %d bytes cannot be stored", dht.MaxValueSize)
	}
	v, err := s.store(ctx, v)
	if err != nil {
		return err
	}
	s.show("stored", v)
	if s.permanent {
		select {} // the node keeps it alive until the process is interrupted
	}
	return nil
}

func (s *session) store(ctx context.Context, v *dht.Value) (*dht.Value, error) {
	key, o := keyOf(s.args[0]), dhtnode.PutOptions{Permanent: s.permanent}
	switch {
	case s.encrypt != "":
		long, short, err := recipient(s.encrypt)
		if err != nil {
			return nil, err
		}
		return s.node.PutEncrypted(ctx, key, long, short, v, o)
	case s.sign:
		return s.node.PutSigned(ctx, key, v, o)
	}
	return v, s.node.Put(ctx, key, v, o)
}

// recipient reads a short or a long key id.
func recipient(s string) (long dht.PkID, short dht.InfoHash, err error) {
	if short, err = dht.ParseInfoHash(s); err == nil {
		return long, short, nil
	}
	if long, err = dht.ParsePkID(s); err != nil {
		err = misused("-encrypt %q is neither 40 nor 64 hex digits", s)
	}
	return long, dht.InfoHash{}, err
}

func listen(ctx context.Context, s *session) error {
	events := make(chan dhtnode.Event, 256)
	l, err := s.node.Listen(keyOf(s.args[0]), dht.Query{}, func(e dhtnode.Event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return err
	}
	defer l.Cancel()
	for n := 0; s.count == 0 || n < s.count; n++ {
		select {
		case e := <-events:
			if e.Expired {
				s.show("expired", e.Value)
			} else {
				s.show("new", e.Value)
			}
		case <-ctx.Done():
			if s.count == 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil // asked to listen for that long
			}
			return ctx.Err()
		}
	}
	return nil
}

func info(ctx context.Context, s *session) error {
	if _, err := s.node.Find(ctx, s.node.ID()); err != nil {
		return err
	}
	v4, v6 := s.node.PublicAddrs()
	s.out.info(s.node.ID(), s.node.Stats(), append(v4, v6...))
	return nil
}
