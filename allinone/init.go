package allinone

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jirani/jirani/bootstrap"
	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/push"
	"github.com/jirani/jirani/turnserver"
)

// head explains the network's own keys; the roles' sections follow in the words of their sample files.
const head = `# A whole Jami network in one process: jirani up -config THIS-FILE
# Every key is here with its default for a LAN and may be left out.

# Everything worth keeping: the name ledger and its key, the DHT node's contacts. One process at a time.
state_dir: jirani-data

# Address or name that people type into Jami. Empty: found by itself, shown anew when it changes.
host: ""

# The servers to run.
roles: [bootstrap, nameserver, turnserver, push]

# The page that tells people what to type into Jami; listen: "" turns it off.
card:
  listen: ":8000"

# What is logged.
log:
  level: info         # debug, info, warn, error; SIGHUP reads it again
  format: auto        # auto, text, json; auto: text on a terminal
  addresses: redacted # redacted or full: whether clients' addresses are logged whole

# Metrics and health, for this machine only; no authentication.
ops:
  listen: 127.0.0.1:9600
  pprof: false
`

// Sample returns the configuration file of a LAN with every key explained. Loading it gives [Default].
func Sample() string {
	boot := setKey(bootstrap.Sample, "listen", `["0.0.0.0:4222", "[::]:4222"]`)
	boot = setKey(boot, "lan", "true")
	boot = setKey(boot, "state_file", "bootstrap/state.msgpack")
	names := setKey(nameserver.Sample, "listen", `":8081"`)
	names = setKey(names, "state_dir", "nameserver")
	names = setKey(names, "policy.mode", "open")
	names = setKey(names, "ledger.create", "true")
	turn := setKey(turnserver.Sample, "listeners", `[{address: "0.0.0.0:3478", transports: [udp, tcp]}, {address: "[::]:3478", transports: [udp, tcp]}]`)
	turn = setKey(turn, "policy.lan", "true")
	turn = setKey(turn, "jami_user", `"on"`)
	gateway := setKey(push.Sample, "unifiedpush.vapid_key_file", "push/vapid.pem")
	gateway = setKey(gateway, "distributor.enabled", "true")
	gateway = setKey(gateway, "distributor.listen", `":8089"`)
	gateway = setKey(gateway, "distributor.url", `""`)
	gateway = setKey(gateway, "distributor.state", "push")
	return head + "\n" + section("bootstrap", withoutCommon(boot)) + "\n" + section("nameserver", withoutCommon(names)) + "\n" +
		section("turnserver", withoutCommon(turn)) + "\n" + section("push", withoutCommon(gateway))
}

// withoutCommon drops the sections that a role's own file has and a network has once.
func withoutCommon(sample string) string {
	for _, key := range []string{"log", "ops"} {
		sample = dropKey(sample, key)
	}
	return sample
}

// publicSample changes a LAN's file into one for a public host.
func publicSample(host, usersFile string) string {
	s := Sample()
	s = setKey(s, "host", host)
	s = setKey(s, "bootstrap.lan", "false")
	s = setKey(s, "nameserver.ledger.origin", host+"/names")
	s = setKey(s, "nameserver.policy.mode", "invite")
	s = setKey(s, "turnserver.policy.lan", "false")
	s = setKey(s, "turnserver.jami_user", `"off"`)
	return setKey(s, "turnserver.realms", fmt.Sprintf("[{name: %s, users_file: %s}]", host, usersFile))
}

// Init writes the configuration file of a LAN, or with a host name that of a public server with a TURN user of its own in turn-users
// beside the file. It overwrites nothing. It returns a line for each thing written and what to do next.
func Init(path, host string) ([]string, error) {
	if host == "" {
		return []string{"wrote " + path, "next: jirani up -config " + path}, create(path, Sample())
	}
	if strings.ContainsAny(host, " /:#{}[],\"'") {
		return nil, fmt.Errorf("init: %q is not a host name", host)
	}
	users, err := filepath.Abs(filepath.Join(filepath.Dir(path), "turn-users"))
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	if err := create(users, "# name:password, one a line\njami:"+rand.Text()+"\n"); err != nil {
		return nil, err
	}
	if err := create(path, publicSample(host, users)); err != nil {
		return nil, errors.Join(err, os.Remove(users))
	}
	return []string{
		"wrote " + path, "wrote " + users + ": the TURN user and password to type into Jami", "next: jirani up -config " + path,
	}, nil
}

// create writes a new file for its owner only; one that exists is an error.
func create(path, content string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return nil
}
