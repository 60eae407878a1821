package bootstrap

import (
	"sync/atomic"

	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics turns the node's numbers into Prometheus's when asked. Labels come from closed sets in the node.
type metrics struct {
	s *Server

	saves, saveErrors atomic.Uint64
	savedAt           atomic.Int64 // Unix seconds, 0 = never
	failing           atomic.Bool  // the last save
	lanFound          atomic.Uint64
}

func newMetrics(s *Server) *metrics { return &metrics{s: s} }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bootstrap_"+name, help, labels, nil)
}

var (
	descReceived   = desc("packets_received_total", "Packets received by kind, before any check of the sender.", "kind")
	descSent       = desc("packets_sent_total", "Packets sent by kind.", "kind")
	descDropped    = desc("packets_dropped_total", "Packets received and not processed, by reason.", "reason")
	descErrorsIn   = desc("errors_received_total", "Error answers received by protocol code.", "code")
	descErrorsOut  = desc("errors_sent_total", "Error answers sent by protocol code.", "code")
	descParts      = desc("parts_total", "Parts of large values and their headers, by outcome.", "outcome")
	descTimeouts   = desc("request_timeouts_total", "Requests of this node left unanswered after three sends.")
	descConflicts  = desc("id_conflicts_total", "Packets with the id of a good node from another address.")
	descPushes     = desc("pushes_total", "Updates sent to listeners.")
	descValues     = desc("values_total", "Values by what became of them: stored, refreshed, refused, expired.", "event")
	descNodes      = desc("nodes", "Nodes in the routing table by state; incoming ones are good ones heard from after their last answer.", "family", "state")
	descConnected  = desc("connected", "1 if at least one good node is known.", "family")
	descSize       = desc("network_size_nodes", "Estimated size of the network.", "family")
	descDepth      = desc("table_depth", "Depth of the routing table at the node's own id.", "family")
	descSearches   = desc("searches", "Searches in progress or kept for reuse.", "family")
	descStored     = desc("stored_values", "Values stored, of others and of this node.", "owner")
	descBytes      = desc("stored_bytes", "Size of stored values with overhead, as limits count it.", "owner")
	descKeys       = desc("stored_keys", "Places with a value or a listen.")
	descListens    = desc("listens", "Listens of others.")
	descReassembly = desc("reassembly_bytes", "Memory held by values whose parts are still arriving.")
	descBlacklist  = desc("blacklisted", "Addresses this node does not talk to.")
	descOverflow   = desc("receive_buffer_drops_total", "Datagrams the kernel dropped because a receive buffer was full.")
	descSaves      = desc("state_saves_total", "Attempts to write the state file, by outcome.", "outcome")
	descSavedAt    = desc("state_saved_timestamp_seconds", "When the state file was last written, Unix time; 0 = not since the start.")
	descLAN        = desc("lan_found_total", "Announcements of nodes heard on the local network.")
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	st := m.s.node.Stats()
	c := collector{ch}
	c.counters(descReceived, st.In)
	c.counters(descSent, st.Out)
	c.counters(descDropped, st.Drops)
	c.counters(descErrorsIn, st.ErrorsIn)
	c.counters(descErrorsOut, st.ErrorsOut)
	c.counters(descParts, st.Parts)
	c.counter(descTimeouts, st.Timeouts)
	c.counter(descConflicts, st.Conflicts)
	c.counter(descPushes, st.Pushes)
	c.counters(descValues, map[string]uint64{"stored": st.Stored, "refreshed": st.Refreshed, "refused": st.Refused, "expired": st.Expired})
	c.family("ipv4", st.IPv4)
	c.family("ipv6", st.IPv6)
	c.gauge(descStored, float64(st.Storage.Values), "others")
	c.gauge(descStored, float64(st.Storage.LocalValues), "own")
	c.gauge(descBytes, float64(st.Storage.Bytes), "others")
	c.gauge(descBytes, float64(st.Storage.LocalBytes), "own")
	c.gauge(descKeys, float64(st.Storage.Keys))
	c.gauge(descListens, float64(st.Storage.Listeners))
	c.gauge(descReassembly, float64(st.ReassemblyBytes))
	c.gauge(descBlacklist, float64(st.Blacklisted))
	c.counter(descOverflow, m.overflow())
	c.counters(descSaves, map[string]uint64{"ok": m.saves.Load(), "error": m.saveErrors.Load()})
	c.gauge(descSavedAt, float64(m.savedAt.Load()))
	c.counter(descLAN, m.lanFound.Load())
}

func (m *metrics) overflow() (n uint64) {
	for _, c := range m.s.conns {
		n += c.Drops()
	}
	return n
}

// collector sends constant metrics.
type collector struct{ ch chan<- prometheus.Metric }

func (c collector) counter(d *prometheus.Desc, v uint64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (c collector) counters(d *prometheus.Desc, by map[string]uint64) {
	for label, v := range by {
		c.counter(d, v, label)
	}
}

func (c collector) gauge(d *prometheus.Desc, v float64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (c collector) family(name string, f dhtnode.FamilyStats) {
	if !f.Enabled {
		return
	}
	c.gauge(descNodes, float64(f.Good), name, "good")
	c.gauge(descNodes, float64(f.Dubious), name, "dubious")
	c.gauge(descNodes, float64(f.Incoming), name, "incoming")
	c.gauge(descNodes, float64(f.Cached), name, "cached")
	connected := 0.0
	if f.Status == dhtnode.Connected {
		connected = 1
	}
	c.gauge(descConnected, connected, name)
	c.gauge(descSize, float64(f.NetworkSize), name)
	c.gauge(descDepth, float64(f.Depth), name)
	c.gauge(descSearches, float64(f.Searches), name)
}
