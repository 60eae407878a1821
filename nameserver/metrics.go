package nameserver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the name server's own collectors. Label values come from the
// closed sets of errors.go and stock.go.
type metrics struct {
	lookups       *prometheus.CounterVec
	registrations *prometheus.CounterVec
	seconds       prometheus.Histogram
	limited       prometheus.Counter
}

// newMetrics registers the collectors of s, or keeps them to itself if reg is
// nil. A registry that has them already is the caller's bug and panics.
func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	m := &metrics{
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nameserver_lookups_total", Help: "Lookups by route and result.",
		}, []string{"route", "result"}),
		registrations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nameserver_registrations_total", Help: "Registrations asked for, by result.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nameserver_registration_seconds", Help: "Time from request to answer of successful registrations.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .5, 1, 5, 20, 60},
		}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "nameserver_rate_limited_total", Help: "Registrations made to wait because their network is over its rate.",
		}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.lookups, m.registrations, m.seconds, m.limited)
	for _, g := range s.gauges() {
		reg.MustRegister(g)
	}
	return m
}

func (s *Server) gauges() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	return []prometheus.Collector{
		gauge("nameserver_connections", "Connections open on all listeners.", func() float64 {
			open, _ := s.conns.counts()
			return float64(open)
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "nameserver_connections_shed_total", Help: "Idle connections closed because there were too many.",
		}, func() float64 { _, shed := s.conns.counts(); return float64(shed) }),
		gauge("nameserver_registrations_held", "Registrations under way or held.", func() float64 { return float64(s.held.Load()) }),
		gauge("nameserver_limited_networks", "Networks the rate limiter remembers.", func() float64 { return float64(s.limiter.Networks()) }),
		gauge("nameserver_ledger_entries", "Entries of the published log.", func() float64 { return float64(s.reader.Status().Size) }),
		gauge("nameserver_names", "Names registered.", func() float64 { return float64(s.reader.Status().Names) }),
		gauge("nameserver_ledger_queue_registrations", "Registrations waiting for the sequencer.", func() float64 { return float64(s.reader.Status().QueueLength) }),
		gauge("nameserver_checkpoint_timestamp_seconds", "Unix time of the last checkpoint.", func() float64 {
			return float64(s.reader.Status().CheckpointAt.Unix())
		}),
		gauge("nameserver_ready", "Whether lookups can be answered for sure.", func() float64 { return flag(s.reader.Status().Ready) }),
		gauge("nameserver_read_only", "Whether registrations are refused: a mirror, or a writer that found itself rolled back.", func() float64 {
			return flag(s.reader.Status().ReadOnly)
		}),
	}
}

func (m *metrics) lookup(route string, err error) {
	m.lookups.WithLabelValues(route, outcomeOf(err).kind).Inc()
}

func (m *metrics) registration(o outcome, d time.Duration) {
	m.registrations.WithLabelValues(o.kind).Inc()
	if o == outcomeOK {
		m.seconds.Observe(d.Seconds())
	}
}
