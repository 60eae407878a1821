package postgres

import (
	"context"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/jirani/jirani/internal/pgtest"
	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPostgreSQL(t *testing.T) {
	srv := pgtest.Start(t)
	t.Run("conformance", func(t *testing.T) { conformance(t, srv) })
	t.Run("migrate side by side", func(t *testing.T) { migrateSideBySide(t, srv) })
}

func conformance(t *testing.T, srv *pgtest.Server) {
	dsns := map[int]string{}
	var mu sync.Mutex
	dsn := func(tb testing.TB, n int) string {
		mu.Lock()
		defer mu.Unlock()
		if dsns[n] == "" {
			dsns[n] = srv.NewDatabase(tb)
		}
		return dsns[n]
	}
	open := func(tb testing.TB, n int) *Store {
		s, err := Open(tb.Context(), dsn(tb, n))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { s.Close() })
		return s
	}
	storetest.Run(t, storetest.Engine{
		Open: func(tb testing.TB, n int) store.Store { return open(tb, n) },
		Exec: func(ctx context.Context, tb testing.TB, n int, sql string) error {
			_, err := open(tb, n).pool.Exec(ctx, sql)
			return err
		},
	})
}

func migrateSideBySide(t *testing.T, srv *pgtest.Server) {
	dsn := srv.NewDatabase(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(t.Context(), dsn)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}
