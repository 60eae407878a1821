package theirs

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

//go:embed peer.py
var script string

// Python is a node of the reference library in a process of its own. Its methods are safe for concurrent use.
type Python struct {
	*process
	ID    string // node id, hex
	KeyID string // short id of its key, hex; empty without identity
	Port  int

	count atomic.Int64
}

// reply is any line the script prints.
type reply struct {
	N      int64   `json:"n"`
	Error  string  `json:"error"`
	ID     any     `json:"id"`
	Key    string  `json:"key"`
	Port   int     `json:"port"`
	OK     bool    `json:"ok"`
	Good   int     `json:"good"`
	Values []Value `json:"values"`
	Listen int64   `json:"listen"`
	Value  *Value  `json:"value"`
}

// StartPython runs a node of the library.
func StartPython(tb testing.TB, opt Options) *Python {
	tb.Helper()
	p := &Python{process: startProcess(tb, opt, python, "-c", script)}
	family := unix.AF_INET
	if opt.Bind4 == "" && opt.Bind6 != "" {
		family = unix.AF_INET6
	}
	r, err := p.call(map[string]any{"op": "run", "port": opt.Port, "network": opt.Network, "identity": opt.Identity,
		"bootstrap": opt.Bootstrap, "bind4": opt.Bind4, "bind6": opt.Bind6, "family": family})
	if err != nil {
		tb.Fatal(err)
	}
	p.ID, p.KeyID, p.Port = fmt.Sprint(r.ID), r.Key, r.Port
	return p
}

func (p *Python) call(cmd map[string]any) (r reply, err error) {
	n := p.count.Add(1)
	cmd["n"] = n
	line, err := json.Marshal(cmd)
	if err != nil {
		return r, err
	}
	from := p.mark()
	if err := p.send(string(line)); err != nil {
		return r, fmt.Errorf("python %v: %w", cmd["op"], err)
	}
	err = p.scan(fmt.Sprintf("python %v", cmd["op"]), from, func(out string) bool {
		r = reply{}
		return decode(out, &r) == nil && r.N == n
	})
	if err == nil && r.Error != "" {
		err = errors.New("python: " + r.Error)
	}
	return r, err
}

// decode keeps value ids whole: they do not fit a float64.
func decode(line string, r *reply) error {
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	return d.Decode(r)
}

// Bootstrap enters the network at host:port.
func (p *Python) Bootstrap(addr string) error {
	_, err := p.call(map[string]any{"op": "bootstrap", "bootstrap": addr})
	return err
}

// Good counts the nodes in its routing tables that it calls good.
func (p *Python) Good() (int, error) {
	r, err := p.call(map[string]any{"op": "good"})
	return r.Good, err
}

// Put stores v.Data with v.UserType at the place key (40 hex digits), under v.ID if it is not 0.
func (p *Python) Put(key string, v Value) error {
	r, err := p.call(map[string]any{"op": "put", "key": key, "data": v.Data, "utype": v.UserType, "id": v.ID})
	if err == nil && !r.OK {
		err = errors.New("python: put failed")
	}
	return err
}

// Get returns the values at key that pass where, such as "WHERE id=5"; empty means all.
func (p *Python) Get(key, where string) ([]Value, error) {
	r, err := p.call(map[string]any{"op": "get", "key": key, "where": where})
	return r.Values, err
}

// Listen returns a function that waits for the next value at key.
func (p *Python) Listen(key string) (next func() (Value, error), err error) {
	from := p.mark()
	r, err := p.call(map[string]any{"op": "listen", "key": key})
	next = func() (v Value, err error) {
		err = p.scan("python listen", from, func(out string) bool {
			from++
			var heard reply
			if decode(out, &heard) != nil || heard.Value == nil || heard.Listen != r.N {
				return false
			}
			v = *heard.Value
			return true
		})
		return v, err
	}
	return next, err
}
