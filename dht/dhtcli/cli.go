package dhtcli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/internal/udpio"
)

// Usage is the text of -help.
const Usage = `Usage:
    jirani dht ping HOST[:PORT]          is a DHT node there?
    jirani dht find KEY                  which nodes are closest to KEY?
    jirani dht get KEY                   which values are at KEY?
    jirani dht put KEY TEXT              store a value: plain, with -sign, or with -encrypt ID
    jirani dht listen KEY                print values at KEY as they come and go
    jirani dht info                      how many nodes are known, and which address do they see us at?

KEY is 40 hex digits, or a text whose SHA-1 is taken. TEXT "-" reads the value from standard input.

Options, after the command:
    -b HOST[:PORT]    node to enter by; default 127.0.0.1:4222; may be repeated
    -n NUMBER         network, 0 is the public one; default 0
    -timeout TIME     give up after this long; default 30s, for listen 0 (never)
    -json             one JSON object per line
    -identity PATH    PATH.pem and PATH.crt sign and decrypt
    -id NUMBER        value id; default random. put stores under it, get asks for it
    -type NUMBER      value type of put; default 0
    -user-type TEXT   user type; default text/plain for put, any for get
    -sign             put: sign with -identity
    -encrypt ID       put: encrypt to the key of that id, 40 or 64 hex digits; needs -identity
    -permanent        put: keep the value alive until interrupted
    -count NUMBER     listen: end after that many events; default 0 (never)

Example:
    jirani dht put -b 127.0.0.1:4222 greeting "hello"
    jirani dht get -b 127.0.0.1:4222 greeting
`

// maxInput bounds a value read from standard input; nothing larger can be stored.
const maxInput = dht.MaxValueSize

type options struct {
	bootstrap []string
	network   uint
	timeout   time.Duration
	json      bool
	identity  string
	id        uint64
	typ       uint
	userType  string
	sign      bool
	encrypt   string
	permanent bool
	count     int
	args      []string
}

// command is one verb. args is how many arguments it takes.
type command struct {
	args int
	run  func(context.Context, *session) error
}

var commands = map[string]command{
	"ping": {1, ping}, "find": {1, find}, "get": {1, get}, "put": {2, put}, "listen": {1, listen}, "info": {0, info},
}

// misuse is a command line that cannot be understood.
type misuse struct{ text string }

func (m *misuse) Error() string { return m.text }

func misused(format string, args ...any) error { return &misuse{fmt.Sprintf(format, args...)} }

func isMisuse(err error) bool {
	_, yes := errors.AsType[*misuse](err)
	return yes
}

// Main runs the command with the arguments that follow "jirani dht" and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" || args[0] == "help" {
		fmt.Fprint(stdout, Usage)
		return 0
	}
	err := run(args, stdin, stdout)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, Usage)
		return 0
	}
	fmt.Fprintf(stderr, "jirani dht: error: %v\n", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(stderr, "jirani dht: hint: %s\n", hint)
	}
	if isMisuse(err) {
		return 2
	}
	return 1
}

func hintFor(err error) string {
	switch {
	case isMisuse(err):
		return "jirani dht -help shows what can be said"
	case errors.Is(err, dhtnode.ErrNotConnected), errors.Is(err, dhtnode.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "nobody answered: is the node named by -b there, reachable over UDP, and of the network named by -n?"
	case errors.Is(err, dhtnode.ErrNotFound):
		return "the recipient's node publishes its certificate when it is online"
	}
	return ""
}

func run(args []string, stdin io.Reader, stdout io.Writer) error {
	cmd, ok := commands[args[0]]
	if !ok {
		return misused("unknown command %q", args[0])
	}
	o, err := parse(args[0], args[1:])
	if err != nil {
		return err
	}
	if len(o.args) != cmd.args {
		return misused("%s takes %d arguments, not %d", args[0], cmd.args, len(o.args))
	}
	s := &session{options: o, in: stdin, out: printer{stdout, o.json}}
	return s.with(context.Background(), func(ctx context.Context) error { return cmd.run(ctx, s) })
}

func parse(name string, args []string) (o options, err error) {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	timeout := 30 * time.Second
	if name == "listen" {
		timeout = 0
	}
	set.Func("b", "", func(s string) error { o.bootstrap = append(o.bootstrap, s); return nil })
	set.UintVar(&o.network, "n", 0, "")
	set.DurationVar(&o.timeout, "timeout", timeout, "")
	set.BoolVar(&o.json, "json", false, "")
	set.StringVar(&o.identity, "identity", "", "")
	set.Uint64Var(&o.id, "id", 0, "")
	set.UintVar(&o.typ, "type", 0, "")
	set.StringVar(&o.userType, "user-type", "", "")
	set.BoolVar(&o.sign, "sign", false, "")
	set.StringVar(&o.encrypt, "encrypt", "", "")
	set.BoolVar(&o.permanent, "permanent", false, "")
	set.IntVar(&o.count, "count", 0, "")
	for len(args) > 0 { // options may stand before, between and after the arguments
		if err := set.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return o, err
			}
			return o, misused("%v", err)
		}
		if args = set.Args(); len(args) > 0 {
			o.args, args = append(o.args, args[0]), args[1:]
		}
	}
	return o, o.check()
}

func (o *options) check() error {
	switch {
	case o.network > 1<<32-1:
		return misused("-n %d is above 4294967295", o.network)
	case o.typ > 1<<16-1:
		return misused("-type %d is above 65535", o.typ)
	case (o.sign || o.encrypt != "") && o.identity == "":
		return misused("-sign and -encrypt need -identity")
	}
	if len(o.bootstrap) == 0 {
		o.bootstrap = []string{"127.0.0.1"}
	}
	return nil
}

// session is a node that lives for one command.
type session struct {
	options
	in   io.Reader
	out  printer
	node *dhtnode.Node
}

// with runs f while the node runs. The time f may take is not the node's.
func (s *session) with(ctx context.Context, f func(context.Context) error) error {
	cfg := dhtnode.Config{Network: uint32(s.network), Bootstrap: s.bootstrap, Client: true, NoPublish: true}
	if s.identity != "" {
		id, err := dhtcrypto.Load(s.identity, nil)
		if err != nil {
			return fmt.Errorf("identity: %w", err)
		}
		cfg.Identity = &id
		// A node id of its own: the one derived from the identity may be in use by the identity's owner.
		cfg.ID = dht.RandomInfoHash()
	}
	conns, err := open(ctx)
	if err != nil {
		return err
	}
	var deps dhtnode.Deps
	for _, c := range conns {
		defer c.Close()
		deps.Conns = append(deps.Conns, c)
	}
	if s.node, err = dhtnode.New(cfg, deps); err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ends with running
		defer close(ended)
		s.node.Run(running)
	}()
	defer func() { cancel(); <-ended }()
	if s.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, s.timeout)
		defer stop()
	}
	return f(ctx)
}

// open binds a socket of each family the machine has.
func open(ctx context.Context) (conns []*udpio.Conn, err error) {
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		c, e := udpio.Listen(ctx, netip.AddrPortFrom(a, 0), udpio.Config{V6Only: true})
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		conns = append(conns, c)
	}
	if len(conns) > 0 {
		return conns, nil
	}
	return nil, err
}

// keyOf reads a key: 40 hex digits, or text to be hashed.
func keyOf(s string) dht.InfoHash {
	if h, err := dht.ParseInfoHash(strings.ToLower(s)); err == nil {
		return h
	}
	return dht.HashText(s)
}
