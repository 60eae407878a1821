package nameserver

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jirani/jirani/internal/pgtest"
)

// TestReplicasRaceForOneName lets two servers on one PostgreSQL database get
// the same names from different accounts at the same time: exactly one account
// has each, both servers say so, and the loser heard "taken".
func TestReplicasRaceForOneName(t *testing.T) {
	pg := pgtest.Start(t)
	state := t.TempDir()
	set := []string{"state_dir=" + state, "store.engine=postgres", "store.dsn_file=" + dsnFile(t, pg.DSN(pg.NewDatabase(t)))}
	one, two := startChild(t, set...), startChild(t, set...)

	const rounds = 12
	names, bodies := registrations(t, "r", 2*rounds)
	var wg sync.WaitGroup
	statuses := make([][2]int, rounds)
	for i := range rounds {
		for side, server := range []*child{one, two} {
			wg.Go(func() {
				// Both want the name that the first one signed; the second signs it too.
				statuses[i][side] = post(t, server, names[2*i], resign(t, i, side, names[2*i], bodies))
			})
		}
	}
	wg.Wait()
	for i, st := range statuses {
		if st != [2]int{200, 403} && st != [2]int{403, 200} {
			t.Errorf("%s: statuses %v, want one success and one refusal", names[2*i], st)
		}
		a, b := get(t, one, "/name/"+names[2*i]), get(t, two, "/name/"+names[2*i])
		if a != b || !strings.Contains(a, names[2*i]) {
			t.Errorf("%s: one server says %s, the other %s", names[2*i], a, b)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// resign returns the registration of the name by the account of that side of
// the race.
func resign(t *testing.T, round, side int, name string, bodies [][]byte) []byte {
	t.Helper()
	if side == 0 {
		return bodies[2*round]
	}
	i, j := pair(2*round + 1)
	pool := primePool(t, i+1)
	b, err := signBody(pool[i], pool[j], name)
	if err != nil {
		t.Error(err)
	}
	return b
}

// pair returns the primes of the n-th account.
func pair(n int) (i, j int) {
	for i = 1; n >= i; i++ {
		n -= i
	}
	return i, n
}

func post(t *testing.T, c *child, name string, body []byte) int {
	res, err := http.Post(c.base+"/name/"+name, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

func get(t *testing.T, c *child, path string) string {
	t.Helper()
	res, err := http.Get(c.base + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
