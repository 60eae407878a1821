package nameserver

import (
	"slices"
	"strings"
	"testing"

	"github.com/jirani/jirani/nameserver/ledgertest"
)

// TestWitnesses lets one name server cosign another's checkpoints.
func TestWitnesses(t *testing.T) {
	logKey, witnessKey := ledgertest.NewSigningKey(t, "localhost/names"), ledgertest.NewSigningKey(t, "w.example")
	w := startReal(t, func(c *Config) {
		c.Ledger.Witness.KeyFile = writeFile(t, witnessKey.Encode()+"\n")
		c.Ledger.Witness.Logs = []string{logKey.VKey()}
	})
	s := startReal(t, func(c *Config) {
		c.Ledger.KeyFile = writeFile(t, logKey.Encode()+"\n")
		c.Ledger.Witnesses = []WitnessConfig{{URL: "http://" + w.Addr() + "/witness", VKey: witnessKey.VKey()}}
		if err := Init(t.Context(), *c, filled(Deps{}).Now()); err != nil {
			t.Fatal(err)
		}
	})
	if status, _, body := ask(t, s, "POST", "/name/alice", vectors(t)[0].Body); status != 200 {
		t.Fatal(status, body)
	}
	eventually(t, "the checkpoint is cosigned", func() bool {
		c, err := s.checkpoint(t.Context())
		return err == nil && slices.Contains(c.Signatures, "w.example")
	})
	eventually(t, "the page shows it", func() bool {
		_, _, page := ask(t, s, "GET", "/log", "")
		return strings.Contains(page, "w.example") && strings.Contains(page, ">signed<")
	})
	if status, _, _ := ask(t, s, "POST", "/witness/add-checkpoint", "old 0\n\n"); status != 404 {
		t.Errorf("a server that is no witness: status %d", status)
	}
}
