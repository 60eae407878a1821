package nameserver

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/pgtest"
)

// TestFrozenDatabase stops every process of PostgreSQL where it stands. Names
// that are known are served on, what the server cannot know is 503 and never
// 404, a registration is held and then 503, and all goes on when the database
// does.
func TestFrozenDatabase(t *testing.T) {
	pg := pgtest.Start(t)
	server := startChild(t, "state_dir="+t.TempDir(), "store.engine=postgres",
		"store.dsn_file="+dsnFile(t, pg.DSN(pg.NewDatabase(t))), "limits.hold=2s")
	names, bodies := registrations(t, "f", 6)
	for i := range 3 {
		if status := post(t, server, names[i], bodies[i]); status != http.StatusOK {
			t.Fatalf("%s: status %d", names[i], status)
		}
	}
	thaw := pg.Freeze(t)
	for i := range 3 {
		if status, took := timed(t, server, http.MethodGet, names[i], nil); status != http.StatusOK || took > bounded {
			t.Errorf("%s on a frozen database: status %d after %v", names[i], status, took)
		}
	}
	if status, took := timed(t, server, http.MethodGet, names[4], nil); status != http.StatusServiceUnavailable || took > bounded {
		t.Errorf("unknown name on a frozen database: status %d after %v", status, took)
	}
	if status, took := timed(t, server, http.MethodPost, names[3], bodies[3]); status != http.StatusServiceUnavailable || took > bounded {
		t.Errorf("registration on a frozen database: status %d after %v", status, took)
	}
	thaw()
	deadline := time.Now().Add(60 * time.Second)
	for i := 3; i < 6; i++ {
		for status := 0; status != http.StatusOK; {
			if status = post(t, server, names[i], bodies[i]); status != http.StatusOK && status != http.StatusServiceUnavailable || time.Now().After(deadline) {
				t.Fatalf("%s with the database back: status %d", names[i], status)
			}
		}
	}
	for _, name := range names {
		if status, _ := timed(t, server, http.MethodGet, name, nil); status != http.StatusOK {
			t.Errorf("%s with the database back: status %d", name, status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// bounded is well beyond every limit in force, and well below for ever.
const bounded = 30 * time.Second

func timed(t *testing.T, c *child, method, name string, body []byte) (status int, took time.Duration) {
	t.Helper()
	began := time.Now()
	req, err := http.NewRequestWithContext(t.Context(), method, c.base+"/name/"+name, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Timeout: 2 * bounded}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "" {
		t.Errorf("%s %s: 503 without Retry-After", method, name)
	}
	took = time.Since(began)
	t.Logf("%s %s: %d after %v", method, name, res.StatusCode, took.Round(time.Millisecond))
	return res.StatusCode, took
}
