package dhtinterop

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

// member is a node of a network in which nodes come and go: a process of ours or of theirs.
type member struct {
	name string // "ours 3", "theirs 5"
	ours bool
	id   string // hex
	addr string
	pid  int
	kill func() // as a power cut would

	heap func() (int, error) // KiB in use after a collection; ours only
	good func() (int, error)
	put  func(key, word string, permanent bool) error
	get  func(key string) (words []string, err error)
}

func newOurMember(t testing.TB, number int, network uint32, entry string) *member {
	c := startChild(t, childConfig{Network: network, Bootstrap: entry})
	return &member{
		name: fmt.Sprint("ours ", number), ours: true, id: c.id, addr: c.addr, pid: c.cmd.Process.Pid, kill: c.kill,
		heap: func() (int, error) {
			a, err := c.call(childCall{Op: "heap"})
			return a.Heap, err
		},
		good: func() (int, error) {
			a, err := c.call(childCall{Op: "good"})
			return a.Good, err
		},
		put: func(key, word string, permanent bool) error {
			_, err := c.call(childCall{Op: "put", Key: key, Data: word, Permanent: permanent})
			return err
		},
		get: func(key string) ([]string, error) {
			a, err := c.call(childCall{Op: "get", Key: key})
			return a.Found, err
		},
	}
}

func newTheirMember(t testing.TB, number int, network uint32, entry string) *member {
	n := theirs.StartNode(t, theirs.Options{Network: network, Bootstrap: entry})
	return &member{
		name: fmt.Sprint("theirs ", number), id: n.ID, addr: local(n.Port), pid: n.PID(), kill: n.Kill, good: n.Good,
		put: func(key, word string, permanent bool) (err error) {
			if permanent {
				_, err = n.PutPermanent(key, word)
			} else {
				_, err = n.Put(key, word)
			}
			return err
		},
		get: func(key string) (words []string, err error) {
			values, err := n.Get(key, "")
			for _, v := range values {
				words = append(words, string(v.Data))
			}
			return words, err
		},
	}
}

// rss is the resident memory of the member's process in KiB.
func (m *member) rss() (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0, fmt.Errorf("no VmRSS of %d", m.pid)
	}
	return strconv.Atoi(f[0])
}
