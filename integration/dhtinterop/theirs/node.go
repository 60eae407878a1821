package theirs

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/dht/dhtcrypto"
)

// Node is a running dhtnode.
type Node struct {
	*process
	ID    string // node id, hex
	KeyID string // short id of its key, hex; empty without identity
	// LongID is the long id of its key, hex, where the program publishes and looks up certificates by that; else empty.
	LongID string
	Port   int // of its IPv4 and IPv6 sockets

	mu sync.Mutex // one prompt command at a time
}

var (
	runningLine = regexp.MustCompile(`OpenDHT node ([0-9a-f]{40}) running on port (\d+)`)
	keyLine     = regexp.MustCompile(`Public key ID ([0-9a-f]{40})`)
	valueLine   = regexp.MustCompile(`^\s*Value\[id:([0-9a-f]+) (.*)\]$`)
	textPart    = regexp.MustCompile(`data\(([^)]*)\):"(.*)"`)
	fieldsLine  = regexp.MustCompile(`^\s*Index\[(.*)\]$`)
	putLine     = regexp.MustCompile(`^Put.*: (success|failure)`)
	putID       = regexp.MustCompile(`Value ID: ([0-9a-f]+)`)
	storageLine = regexp.MustCompile(`Storage(?: has|:) (\d+) values`)
	goodLine    = regexp.MustCompile(`Known nodes: (\d+) good`)
)

// programEnv names another build of dhtnode to try, such as a newer release. The Python binding stays the installed one.
const programEnv = "DHTINTEROP_DHTNODE"

// StartNode runs dhtnode: the one in opt, else the one the environment names, else the one installed.
func StartNode(tb testing.TB, opt Options) *Node {
	tb.Helper()
	program := cmp.Or(opt.Program, os.Getenv(programEnv), "dhtnode")
	byLongID := opt.Identity && long(tb, program, opt)
	if byLongID && opt.SaveIdentity == "" {
		opt.SaveIdentity = filepath.Join(tb.TempDir(), "identity")
	}
	n := &Node{process: startProcess(tb, opt, program, opt.args()...)}
	err := n.scan("start dhtnode", 0, func(line string) bool {
		if m := runningLine.FindStringSubmatch(line); m != nil {
			n.ID = m[1]
			n.Port, _ = strconv.Atoi(m[2])
		}
		if m := keyLine.FindStringSubmatch(line); m != nil {
			n.KeyID = m[1]
		}
		return strings.Contains(line, "(type 'h'")
	})
	if err != nil {
		tb.Fatal(err)
	}
	if byLongID { // it only prints the other
		id, err := dhtcrypto.Load(opt.SaveIdentity, nil)
		if err != nil {
			tb.Fatal(err)
		}
		n.LongID = id.Key.Public().LongID().String()
	}
	return n
}

var versionLine = regexp.MustCompile(`OpenDHT version (\d+)\.(\d+)`)

// long reports whether a build names keys by their long ids: since 3.5 (docs/protocols/opendht.md §6.6).
func long(tb testing.TB, program string, opt Options) bool {
	tb.Helper()
	cmd := exec.Command(program, "--version")
	cmd.Env = append(os.Environ(), opt.Library...)
	out, err := cmd.CombinedOutput()
	m := versionLine.FindSubmatch(out)
	if m == nil {
		tb.Fatalf("%s --version: %v, %q", program, err, out)
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return major > 3 || major == 3 && minor >= 5
}

func (o Options) args() []string {
	args := []string{"-p", strconv.Itoa(o.Port), "-n", strconv.FormatUint(uint64(o.Network), 10)}
	add := func(on bool, more ...string) {
		if on {
			args = append(args, more...)
		}
	}
	add(o.Bootstrap != "", "-b", o.Bootstrap)
	add(o.Identity, "-i")
	add(o.State != "", "-f", o.State)
	add(o.Certificate != "", "--certificate", o.Certificate, "--privkey", o.PrivateKey)
	add(o.SaveIdentity != "", "--save-identity", o.SaveIdentity)
	add(o.NoRateLimit, "-U")
	add(o.PublicStable, "-P")
	add(o.Discovery, "-D")
	return append(args, o.Args...)
}

// command types a line and reads the answer until done returns true.
func (n *Node) command(line string, done func(string) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	from := n.mark()
	if err := n.send(line); err != nil {
		return fmt.Errorf("dhtnode %q: %w", line, err)
	}
	return n.scan(fmt.Sprintf("dhtnode %q", line), from, done)
}

// scan leaves out the prompt, which comes at any moment, also within a line.
func (n *Node) scan(what string, i int, f func(line string) bool) error {
	return n.process.scan(what, i, func(line string) bool { return f(strings.ReplaceAll(line, ">> ", "")) })
}

// Good counts the good nodes of both families.
func (n *Node) Good() (good int, err error) {
	families := 0
	err = n.command("ll", func(line string) bool {
		if m := goodLine.FindStringSubmatch(line); m != nil {
			k, _ := strconv.Atoi(m[1])
			good += k
			families++
		}
		return families == 2
	})
	return good, err
}

// Stored counts the values the node keeps, its own included.
func (n *Node) Stored() (values int, err error) {
	err = n.command("ll", func(line string) bool {
		if m := storageLine.FindStringSubmatch(line); m != nil {
			values, _ = strconv.Atoi(m[1])
		}
		return strings.Contains(line, "IPv6 stats")
	})
	return values, err
}

// Put stores one word of text and returns the value's id.
func (n *Node) Put(key, word string) (uint64, error) { return n.put("p " + key + " " + word) }

// PutPermanent is Put that keeps announcing.
func (n *Node) PutPermanent(key, word string) (uint64, error) { return n.put("pp " + key + " " + word) }

// PutSigned signs with the node's identity.
func (n *Node) PutSigned(key, word string) error {
	_, err := n.put("s " + key + " " + word)
	return err
}

// PutEncrypted looks up the certificate of a key id, a long one if LongID is set, and encrypts to it.
func (n *Node) PutEncrypted(key, to, word string) error {
	_, err := n.put("e " + key + " " + to + " " + word)
	return err
}

func (n *Node) put(line string) (id uint64, err error) {
	ok := false
	err = n.command(line, func(out string) bool {
		m := putLine.FindStringSubmatch(out)
		if m == nil {
			return false
		}
		ok = m[1] == "success"
		if v := putID.FindStringSubmatch(out); v != nil {
			id, _ = strconv.ParseUint(v[1], 16, 64)
		}
		return true
	})
	if err == nil && !ok {
		err = fmt.Errorf("dhtnode %q: failure", line)
	}
	return id, err
}

// Get returns the values at key that pass where, such as "WHERE id=5"; empty means all.
func (n *Node) Get(key, where string) (values []Value, err error) {
	err = n.command(strings.TrimSpace("g "+key+" "+where), func(line string) bool {
		if v, ok := parseValue(line); ok {
			values = append(values, v)
		}
		return strings.Contains(line, "Get: completed") || strings.Contains(line, "Get: failure")
	})
	return values, err
}

// Query returns the rows of fields selected, as the prompt prints them: "Id:…,Seq:0".
func (n *Node) Query(key, query string) (rows []string, err error) {
	err = n.command("q "+key+" "+query, func(line string) bool {
		if m := fieldsLine.FindStringSubmatch(line); m != nil {
			rows = append(rows, m[1])
		}
		return strings.Contains(line, "Query: completed") || strings.Contains(line, "Query: failure")
	})
	return rows, err
}

// Listen starts listening and returns a function that waits for the next value. One listen per node: the prompt does
// not say which one a value belongs to.
func (n *Node) Listen(key string) (next func() (Value, error), err error) {
	from := n.mark()
	err = n.command("l "+key, func(line string) bool { return strings.Contains(line, "Listening, token") })
	expired := false
	next = func() (v Value, err error) {
		err = n.scan("listen "+key, from, func(line string) bool {
			from++
			if strings.Contains(line, "Listen:") {
				expired = strings.Contains(line, "expired")
			}
			var ok bool
			v, ok = parseValue(line)
			return ok
		})
		v.Expired = expired
		return v, err
	}
	return next, err
}

// CancelPut stops a permanent put.
func (n *Node) CancelPut(key string, id uint64) error {
	return n.command(fmt.Sprintf("cpp %s %x", key, id), func(string) bool { return true })
}

// Quit ends the program by its prompt, so that it writes its state file.
func (n *Node) Quit() error {
	if err := n.send("x"); err != nil {
		return err
	}
	select {
	case <-n.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("dhtnode: did not quit within %v", patience)
	}
}

// parseValue reads a line such as
//
//	Value[id:1de6afcf9c884185 signed (v0) decrypted data(text/plain):"secret"]
func parseValue(line string) (Value, bool) {
	m := valueLine.FindStringSubmatch(line)
	if m == nil {
		return Value{}, false
	}
	id, err := strconv.ParseUint(m[1], 16, 64)
	v := Value{ID: id, Signed: strings.Contains(m[2], "signed ("), Decrypted: strings.Contains(m[2], "decrypted ")}
	if t := textPart.FindStringSubmatch(m[2]); t != nil {
		v.UserType, v.Data = t[1], []byte(t[2])
	}
	return v, err == nil
}
