//go:build linux

package firstlight

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/jirani/jirani/integration/program"
)

// dht adds a DHT node; lan has it announce itself.
func (s *servers) dht(whose string, lan bool) {
	if whose == ours {
		s.own("bootstrap", s.udpOpen(dhtPort), fmt.Sprintf("listen: [%q]\nlan: %t\n", s.at(dhtPort), lan))
		return
	}
	args := []string{"-s", "-p", fmt.Sprint(dhtPort)}
	if lan {
		args = append(args, "--peer-discovery")
	}
	s.programs = append(s.programs, server{"dhtnode", "/usr/bin/dhtnode", args, s.udpOpen(dhtPort)})
}

// names adds a name server that takes registrations from everybody.
func (s *servers) names(whose string) {
	if whose == ours {
		s.own("nameserver", s.tcpOpen(namesPort), fmt.Sprintf(
			"listen: %q\nledger: {origin: lab.example/names, create: true}\npolicy: {mode: open}\n", s.at(namesPort)))
		return
	}
	s.inside = newNameStub()
}

// turn adds a relay with the user that clients carry by default.
func (s *servers) turn(whose string) {
	if whose == ours {
		s.own("turnserver", s.tcpOpen(turnPort), fmt.Sprintf(
			"listeners: [{address: %q, transports: [udp, tcp]}]\npolicy: {lan: true}\njami_user: \"on\"\n", s.at(turnPort)))
		return
	}
	ip := s.machine.Addr.String()
	s.programs = append(s.programs, server{"turnserver", "/usr/bin/turnserver", []string{
		"-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file=stdout",
		"--lt-cred-mech", "--user=" + relayUser + ":" + relayUser, "--realm=" + relayUser,
		"--listening-ip=" + ip, "--relay-ip=" + ip, fmt.Sprintf("--listening-port=%d", turnPort),
		"--userdb=" + filepath.Join(s.dir("turnserver"), "db"), "--pidfile=" + filepath.Join(s.dir("turnserver"), "pid"),
	}, s.tcpOpen(turnPort)})
}

// up adds jirani up, as a newcomer types it: no file, no arguments.
func (s *servers) up() {
	s.programs = []server{{"up", program.Build(s.t, "jirani"), []string{"up"}, all(s.udpOpen(dhtPort), s.tcpOpen(namesPort), s.tcpOpen(turnPort))}}
}

// own adds this module's server of a role with the configuration given.
func (s *servers) own(role string, ready check, config string) {
	name := "jirani-" + role
	file := filepath.Join(s.dir(name), role+".yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.programs = append(s.programs, server{name, program.Build(s.t, name), []string{"-config", file}, ready})
}
