package turnserver

import (
	"github.com/jirani/jirani/turnserver/policy"
	"github.com/pion/stun/v3"
	"github.com/prometheus/client_golang/prometheus"
)

// drop is why a packet was not relayed, for a metric's label.
type drop string

const (
	dropMalformed  drop = "malformed"
	dropChannel    drop = "no_channel"
	dropPermission drop = "no_permission"
	dropRate       drop = "rate"
	dropSend       drop = "send"
)

// metrics are the server's collectors. Every label has a closed set of values, made at the start.
type metrics struct {
	live     [4]prometheus.Gauge
	made     [4]prometheus.Counter
	requests map[stun.Method]prometheus.Counter
	refusal  map[refusal]prometheus.Counter
	drops    map[drop]prometheus.Counter
	policy   [policy.NumReasons]prometheus.Counter
	relayed  [2]struct{ packets, bytes prometheus.Counter } // up, down
	kernel   map[kernelState]prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "turnserver_" + name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "turnserver_" + name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &metrics{requests: make(map[stun.Method]prometheus.Counter), refusal: make(map[refusal]prometheus.Counter),
		drops: make(map[drop]prometheus.Counter)}
	live := gauge("allocations", "Allocations there are, by the client's transport.", "transport")
	made := counter("allocations_total", "Allocations made, by the client's transport.", "transport")
	for i, name := range transportNames {
		m.live[i], m.made[i] = live.WithLabelValues(name), made.WithLabelValues(name)
	}
	requests := counter("requests_total", "STUN requests received, by method.", "method")
	for method, name := range map[stun.Method]string{stun.MethodBinding: "binding", stun.MethodAllocate: "allocate", stun.MethodRefresh: "refresh",
		stun.MethodCreatePermission: "create_permission", stun.MethodChannelBind: "channel_bind", stun.MethodConnect: "connect",
		stun.MethodConnectionBind: "connection_bind", 0: "other"} {
		m.requests[method] = requests.WithLabelValues(name)
	}
	refused := counter("refusals_total", "Requests and connections refused, by reason.", "reason")
	for _, r := range refusals {
		m.refusal[r] = refused.WithLabelValues(string(r))
	}
	drops := counter("drops_total", "Packets not relayed, by reason.", "reason")
	for _, d := range []drop{dropMalformed, dropChannel, dropPermission, dropRate, dropSend} {
		m.drops[d] = drops.WithLabelValues(string(d))
	}
	verdicts := counter("policy_refusals_total", "Packets and peer connections refused for the peer's address, by the kind of address.", "kind")
	for r := range policy.NumReasons {
		if r != policy.Allowed {
			m.policy[r] = verdicts.WithLabelValues(r.String())
		}
	}
	packets := counter("relayed_packets_total", "UDP packets relayed, by direction: up is from the client.", "direction")
	bytes := counter("relayed_bytes_total", "Bytes of data relayed, headers not counted, by direction: up is from the client.", "direction")
	for i, name := range []string{"up", "down"} {
		m.relayed[i].packets, m.relayed[i].bytes = packets.WithLabelValues(name), bytes.WithLabelValues(name)
	}
	m.kernel = make(map[kernelState]prometheus.Gauge)
	kernel := gauge("kernel_path", "1 for the state that the data path in the kernel is in.", "state")
	for _, state := range kernelStates {
		m.kernel[state] = kernel.WithLabelValues(string(state))
	}
	return m
}

func (m *metrics) refused(r refusal)             { m.refusal[r].Inc() }
func (m *metrics) dropped(d drop)                { m.drops[d].Inc() }
func (m *metrics) unsent(n uint64)               { m.drops[dropSend].Add(float64(n)) }
func (m *metrics) policyDropped(r policy.Reason) { m.policy[r].Inc() }

func (m *metrics) request(method stun.Method) {
	c, ok := m.requests[method]
	if !ok {
		c = m.requests[0]
	}
	c.Inc()
}

func (m *metrics) began(t transport) {
	m.live[t].Inc()
	m.made[t].Inc()
}

func (m *metrics) ended(t transport) { m.live[t].Dec() }
