package push

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/provider"
)

// metrics are the gateway's collectors. Labels come from closed sets: provider fcm, apns, unifiedpush; priority
// normal, high, call; status and reason as in packages dispatch and provider.
type metrics struct {
	messages  *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	send      *prometheus.HistogramVec
	age       *prometheus.HistogramVec
	dead      *prometheus.CounterVec
	refused   *prometheus.CounterVec
	malformed prometheus.Counter
	snapshot  *snapshot
}

var buckets = []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 1800}

func newMetrics(s *Server) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	return &metrics{
		messages: counter("push_messages_total", "Messages that ended, by how.", "provider", "priority", "status"),
		attempts: counter("push_attempts_total", "Attempts to send, by the provider's answer.", "provider", "priority", "reason"),
		send:     histogram("push_send_seconds", "Time one attempt took.", "provider"),
		age:      histogram("push_delivery_age_seconds", "Age of messages when the provider took them.", "provider", "priority"),
		dead:     counter("push_dead_tokens_total", "Tokens reported dead.", "provider", "reason"),
		refused:  counter("push_refused_total", "Messages not taken into the queue.", "platform", "reason"),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{Name: "push_malformed_requests_total",
			Help: "Requests that were not understood."}),
		snapshot: newSnapshot(s),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.messages, m.attempts, m.send, m.age, m.dead, m.refused, m.malformed, m.snapshot}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

// Attempt implements dispatch.Observer.
func (s *Server) Attempt(name string, p provider.Priority, out provider.Outcome, took time.Duration) {
	s.metrics.attempts.WithLabelValues(name, p.String(), string(out.Reason)).Inc()
	s.metrics.send.WithLabelValues(name).Observe(took.Seconds())
}

// Finished implements dispatch.Observer.
func (s *Server) Finished(name string, p provider.Priority, r dispatch.Result, age time.Duration) {
	s.metrics.messages.WithLabelValues(name, p.String(), r.Status.String()).Inc()
	if r.Status == dispatch.Delivered {
		s.metrics.age.WithLabelValues(name, p.String()).Observe(age.Seconds())
	}
}

// Died implements dispatch.Observer.
func (s *Server) Died(d dispatch.Death) {
	lane := s.senders.lanes[d.Target.Platform]
	s.metrics.dead.WithLabelValues(lane.Provider.Name(), string(d.Reason)).Inc()
	s.log.Debug("token dead", "platform", d.Target.Platform.String(), "token", d.Target.Token, "reason", string(d.Reason))
	s.feedback.add(d)
}

// snapshot reads the state of queues and distributor when it is asked.
type snapshot struct {
	s                                                      *Server
	depth, oldest, bytes, inFlight, paused, hosts, deadNow *prometheus.Desc
	receivers, topics, kept, published, handed             *prometheus.Desc
}

func newSnapshot(s *Server) *snapshot {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &snapshot{
		s:         s,
		depth:     desc("push_queue_messages", "Messages waiting.", "provider", "priority"),
		oldest:    desc("push_queue_oldest_seconds", "Age of the oldest waiting message.", "provider", "priority"),
		bytes:     desc("push_queue_bytes", "Data of waiting messages.", "provider"),
		inFlight:  desc("push_in_flight", "Attempts under way.", "provider"),
		paused:    desc("push_paused_hosts", "Hosts left alone after failures or at their own request.", "provider"),
		hosts:     desc("push_hosts", "Hosts with messages or recent trouble.", "provider"),
		deadNow:   desc("push_dead_tokens", "Dead tokens remembered.", "provider"),
		receivers: desc("push_distributor_receivers", "Open streams of the UnifiedPush server."),
		topics:    desc("push_distributor_topics", "Topics that somebody receives."),
		kept:      desc("push_distributor_messages", "Messages kept."),
		published: desc("push_distributor_published_total", "Messages published."),
		handed:    desc("push_distributor_delivered_total", "Messages written to streams."),
	}
}

// Describe implements prometheus.Collector.
func (c *snapshot) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.depth, c.oldest, c.bytes, c.inFlight, c.paused, c.hosts, c.deadNow,
		c.receivers, c.topics, c.kept, c.published, c.handed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *snapshot) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for name, st := range c.s.disp.Stats() {
		for p := range st.Waiting {
			prio := provider.Priority(p).String()
			gauge(c.depth, float64(st.Waiting[p]), name, prio)
			gauge(c.oldest, st.Oldest[p].Seconds(), name, prio)
		}
		gauge(c.bytes, float64(st.Bytes), name)
		gauge(c.inFlight, float64(st.InFlight), name)
		gauge(c.paused, float64(st.Paused), name)
		gauge(c.hosts, float64(st.Hosts), name)
		gauge(c.deadNow, float64(st.Dead), name)
	}
	if c.s.dist == nil {
		return
	}
	st := c.s.dist.Stats()
	gauge(c.receivers, float64(st.Receivers))
	gauge(c.topics, float64(st.Topics))
	gauge(c.kept, float64(st.Kept))
	ch <- prometheus.MustNewConstMetric(c.published, prometheus.CounterValue, float64(st.Published))
	ch <- prometheus.MustNewConstMetric(c.handed, prometheus.CounterValue, float64(st.Delivered))
}
