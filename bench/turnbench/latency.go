package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

const (
	latencyName    = "way through at half load"
	latencyClients = 8 // few, so that looking for what has come takes the generator little time
	latencySize    = 172
)

// compareLatency finds what each server carries, loads both with half of what the slower one does, at an even pace, and prints how long
// packets are under way. Each carries the time of its sending. In every round the same load goes without a relay too: what is late then is
// the generator and the machine, and no server's number means anything that is not far above.
func (g generator) compareLatency(ours, theirs string, rounds int) error {
	var p50, p99 [3][]float64 // ours, coturn's, without a relay
	var load []float64
	for range rounds {
		servers := [2]func() (*server, error){
			func() (*server, error) { return loopback.startOurs(ours) }, func() (*server, error) { return loopback.startCoturn(theirs) }}
		rate := 0.0
		for _, start := range servers {
			v, err := with(start, g.throughput)
			if err != nil {
				return err
			}
			if rate == 0 || v/2 < rate {
				rate = v / 2
			}
		}
		load = append(load, rate)
		for i, start := range append(servers[:], func() (*server, error) { return &server{at: loopback}, nil }) {
			times, err := with(start, func(s *server) ([]time.Duration, error) { return g.paced(s, rate) })
			if err != nil {
				return err
			}
			slices.Sort(times)
			p50[i] = append(p50[i], micros(times, 0.50))
			p99[i] = append(p99[i], micros(times, 0.99))
		}
	}
	for _, row := range []struct {
		name string
		v    [3][]float64
	}{{"p50", p50}, {"p99", p99}} {
		x, y := median(row.v[0]), median(row.v[1])
		fmt.Printf("| %s, %.0f packets/s, %s | µs | %.3g | %.3g | %.2f |\n", latencyName, median(load), row.name, x, y, x/y)
		fmt.Printf("| the same without a relay, %s | µs | %.3g | | |\n", row.name, median(row.v[2]))
	}
	return nil
}

func with[T any](start func() (*server, error), use func(*server) (T, error)) (v T, err error) {
	s, err := start()
	if err != nil {
		return v, err
	}
	defer s.stop()
	return use(s)
}

func micros(sorted []time.Duration, quantile float64) float64 {
	return float64(sorted[int(quantile*float64(len(sorted)-1))]) / 1e3
}

// throughput returns how many packets per second come through when as many as fit are under way.
func (g generator) throughput(s *server) (float64, error) {
	lanes, closeAll, err := g.open(s, latencyClients)
	defer closeAll()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	got, _, err := pump(lanes, true, latencySize, 1, g.packets)
	return float64(got) / time.Since(begin).Seconds(), err
}

// paced sends packets at a rate, each client in turn, and returns how long those that came were under way. A generator that was held up
// does not make up for it by a burst.
func (g generator) paced(s *server, rate float64) ([]time.Duration, error) {
	lanes, closeAll, err := g.open(s, latencyClients)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	packet := make([]byte, 4+latencySize)
	binary.BigEndian.PutUint16(packet, channel)
	binary.BigEndian.PutUint16(packet[2:], latencySize)
	gap := time.Duration(float64(time.Second) / rate)
	in, times := newMessages(64), make([]time.Duration, 0, g.packets)
	begin := time.Now()
	var due, last time.Duration // of the next packet, of the last that came
	sent := 0
	for len(times) < g.packets && (sent < g.packets || time.Since(begin)-last < stuck/4) {
		if now := time.Since(begin); now >= due && sent < g.packets {
			l := lanes[sent%len(lanes)]
			binary.BigEndian.PutUint64(packet[4:], uint64(now))
			if err := l.near.WriteTo(packet, l.server); err != nil {
				return nil, err
			}
			sent++
			if due += gap; due < now-16*gap {
				due = now
			}
		}
		for _, l := range lanes {
			n, err := take(l.far, in, func(d []byte) {
				last = time.Since(begin)
				times = append(times, last-time.Duration(binary.BigEndian.Uint64(d[len(d)-latencySize:])))
			})
			if err != nil {
				return nil, err
			}
			if n > 0 {
				break // the pace goes before
			}
		}
	}
	if lost := sent - len(times); float64(lost) > maxLoss*float64(sent) {
		return nil, fmt.Errorf("%d of %d packets were lost", lost, sent)
	}
	return times, nil
}
