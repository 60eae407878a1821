package kernelpath

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxFlows bounds what the kernel relays at once: two for each channel. Further channels are relayed in user space.
const maxFlows = 1 << 15

// Path is the program with its maps. Its methods are safe for concurrent use, but Close: nothing may be called after it, nor any method of
// a Flow.
type Path struct {
	program *ebpf.Program
	maps    map[string]*ebpf.Map
	flows   *ebpf.Map
	mapped  [][]byte // memory of maps
	slots   []slot   // the traffic map
	lease   *uint64  // the lease map
	routes  *netlink.Handle
	zero    time.Time // by the process's clock
	zeroNS  uint64    // the same moment by the kernel's

	mu      sync.Mutex // guards what follows
	free    []uint32   // slots, those longest out of use first
	devices map[int]*device
}

// device is an Ethernet interface of this host.
type device struct {
	name string
	mtu  int
	tap  link.Link // nil where the program could not be attached
}

// Open loads the program and attaches it to nothing yet. A process without privilege gets an error that wraps os.ErrPermission.
func Open() (*Path, error) {
	p := &Path{maps: make(map[string]*ebpf.Map), devices: make(map[int]*device)}
	if err := p.open(); err != nil {
		p.Close()
		return nil, fmt.Errorf("kernelpath: %w", err)
	}
	return p, nil
}

func (p *Path) open() (err error) {
	p.zero, p.zeroNS = time.Now(), kernelTime()
	for i := range uint32(maxFlows) {
		p.free = append(p.free, i)
	}
	if err := p.openMaps(); err != nil {
		return err
	}
	t := tables{flows: p.flows.FD(), traffic: p.maps["traffic"].FD(), lease: p.maps["lease"].FD(), scratch: p.maps["scratch"].FD()}
	p.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Name: "jirani_turn", Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: program(t)})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if p.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	return nil
}

func (p *Path) openMaps() error {
	for _, spec := range []ebpf.MapSpec{
		{Name: "flows", Type: ebpf.Hash, KeySize: uint32(flowKeySize), ValueSize: uint32(flowRuleSize), MaxEntries: maxFlows, Flags: unix.BPF_F_NO_PREALLOC},
		{Name: "traffic", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(slotSize), MaxEntries: maxFlows, Flags: unix.BPF_F_MMAPABLE},
		{Name: "lease", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE},
		{Name: "scratch", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: maxData, MaxEntries: 1},
	} {
		m, err := ebpf.NewMap(&spec)
		if err != nil {
			return fmt.Errorf("map %s: %w", spec.Name, err)
		}
		p.maps[spec.Name] = m
	}
	p.flows = p.maps["flows"]
	traffic, err := p.mmap(p.maps["traffic"], maxFlows*slotSize)
	if err != nil {
		return err
	}
	lease, err := p.mmap(p.maps["lease"], 8)
	if err != nil {
		return err
	}
	p.slots = unsafe.Slice((*slot)(unsafe.Pointer(&traffic[0])), maxFlows)
	p.lease = (*uint64)(unsafe.Pointer(&lease[0]))
	return nil
}

func (p *Path) mmap(m *ebpf.Map, size int) ([]byte, error) {
	b, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map memory: %w", err)
	}
	p.mapped = append(p.mapped, b)
	return b, nil
}

// Close takes the program off every interface and frees it. Packets that it would have relayed come to the sockets again.
func (p *Path) Close() {
	for _, d := range p.devices {
		d.detach()
	}
	if p.program != nil {
		p.program.Close()
	}
	if p.routes != nil {
		p.routes.Close()
	}
	for _, b := range p.mapped {
		_ = unix.Munmap(b)
	}
	for _, m := range p.maps {
		m.Close()
	}
}

// Renew lets flows be relayed for another while; none is before the first call.
func (p *Path) Renew(while time.Duration) {
	atomic.StoreUint64(p.lease, kernelTime()+uint64(while))
}

// Follow attaches the program to Ethernet interfaces that are up and have come since the last call, and forgets those that have gone.
// Interfaces it could not be attached to are told once, and not tried again.
func (p *Path) Follow() error {
	links, err := p.routes.LinkList()
	if err != nil {
		return fmt.Errorf("kernelpath: interfaces: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	there := make(map[int]bool)
	for _, l := range links {
		a := l.Attrs()
		if a.EncapType != "ether" || a.Flags&net.FlagUp == 0 || a.MasterIndex != 0 {
			continue // without an Ethernet header; or part of another, which has the addresses
		}
		there[a.Index] = true
		d := p.devices[a.Index]
		if d == nil {
			d = &device{name: a.Name}
			p.devices[a.Index] = d
			errs = append(errs, d.attach(p.program, a.Index))
		}
		d.mtu = a.MTU
	}
	for index, d := range p.devices {
		if !there[index] {
			d.detach()
			delete(p.devices, index)
		}
	}
	return errors.Join(errs...)
}

func (d *device) attach(program *ebpf.Program, index int) error {
	tap, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return fmt.Errorf("kernelpath: attach to %s: %w", d.name, err)
	}
	d.tap = tap
	return nil
}

func (d *device) detach() {
	if d.tap != nil {
		d.tap.Close()
	}
}

// Interfaces names those the program is attached to.
func (p *Path) Interfaces() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.devices {
		if d.tap != nil {
			names = append(names, d.name)
		}
	}
	slices.Sort(names)
	return names
}

// deadline is t by the kernel's clock.
func (p *Path) deadline(t time.Time) uint64 { return p.zeroNS + uint64(max(0, t.Sub(p.zero))) }

// kernelTime is what bpf_ktime_get_ns returns.
func kernelTime() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // never fails
	return uint64(ts.Nano())
}
