package distributor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // driver "sqlite"

	"github.com/jirani/jirani/internal/logging"
)

// Errors of add.
var (
	errStoreFull   = errors.New("distributor: too many messages kept")
	errStoreClosed = errors.New("distributor: shutting down")
)

const (
	maxBatch   = 500 // messages per commit
	queueLen   = 4 * maxBatch
	pageLen    = 200 // messages read at once for a receiver
	pruneEvery = 5 * time.Minute
	gather     = 2 * time.Millisecond
)

// store is the message database. One goroutine, run, writes; any may read.
//
// A commit is durable against the end of the process at once, and against the end of the machine when SQLite next
// checkpoints (synchronous=NORMAL in WAL mode): a lost hint is not worth a disk flush per batch.
type store struct {
	db       *sql.DB
	insert   *sql.Stmt
	cfg      Config
	queue    chan *write
	stopping chan struct{} // closed when run has ended
	busy     bool          // run's: the last batch held several
	failing  bool          // run's: the last commit failed; logged when it changes

	mu        sync.Mutex
	last      int64          // newest seq given
	topics    map[string]int // kept messages per topic
	kept      int
	published uint64 // and committed
}

// write is a message on its way into a batch. done has room for one.
type write struct {
	m    *message
	done chan error
}

const schema = `
CREATE TABLE IF NOT EXISTS messages (
	seq      INTEGER PRIMARY KEY, -- microseconds since 1970, unique
	topic    TEXT    NOT NULL,
	expires  INTEGER NOT NULL,    -- Unix seconds
	binary   INTEGER NOT NULL,
	collapse TEXT    NOT NULL,
	body     BLOB    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS messages_topic ON messages (topic, seq);`

// There is no index by end of life: keeping one costs each message more than a scan every few minutes costs all.

func openStore(path string, cfg Config) (*store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("distributor: %w", err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=wal_autocheckpoint(4000)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, fmt.Errorf("distributor: open %s: %w", path, err)
	}
	s := &store{db: db, cfg: cfg, queue: make(chan *write, queueLen), stopping: make(chan struct{}), topics: make(map[string]int)}
	if err := s.load(); err != nil {
		db.Close()
		return nil, fmt.Errorf("distributor: open %s: %w", path, err)
	}
	return s, nil
}

func (s *store) load() error {
	if _, err := s.db.Exec(schema); err != nil {
		return err
	}
	rows, err := s.db.Query("SELECT topic, count(*), max(seq) FROM messages GROUP BY topic")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var topic string
		var n int
		var seq int64
		if err := rows.Scan(&topic, &n, &seq); err != nil {
			return err
		}
		s.topics[topic] = n
		s.kept += n
		s.last = max(s.last, seq)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	s.insert, err = s.db.Prepare("INSERT INTO messages (seq, topic, expires, binary, collapse, body) VALUES (?,?,?,?,?,?)")
	return err
}

// add commits a message and returns its number. It blocks until the commit, or until ctx is done, when the message
// may still be committed.
func (s *store) add(ctx context.Context, m *message) (int64, error) {
	s.mu.Lock()
	full := s.kept >= s.cfg.MaxMessages
	s.mu.Unlock()
	if full && m.ttl > 0 {
		return 0, errStoreFull
	}
	w := &write{m: m, done: make(chan error, 1)}
	select {
	case s.queue <- w:
	case <-s.stopping:
		return 0, errStoreClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case err := <-w.done:
		return m.seq, err
	case <-s.stopping:
		return 0, errStoreClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run commits what arrives and tells publish of each message after its commit, in order, until ctx is done and the
// queue is empty.
func (s *store) run(ctx context.Context, publish func(*message), log *slog.Logger) {
	defer close(s.stopping)
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	for {
		select {
		case w := <-s.queue:
			s.commit(s.batch(w), publish, log)
		case <-prune.C:
			if err := s.prune(time.Now()); err != nil {
				log.Error("expired messages not removed", logging.KeyErr, err)
			}
		case <-ctx.Done():
			if len(s.queue) == 0 {
				return
			}
			s.commit(s.batch(<-s.queue), publish, log)
		}
	}
}

// batch takes what waits, at most maxBatch. While messages come several at a time it waits gather for more: half of
// a commit's cost is the same for one message and for fifty.
func (s *store) batch(first *write) []*write {
	if s.busy {
		time.Sleep(gather)
	}
	out := []*write{first}
	for more := true; more && len(out) < maxBatch; {
		select {
		case w := <-s.queue:
			out = append(out, w)
		default:
			more = false
		}
	}
	s.busy = len(out) > 1
	return out
}

func (s *store) commit(batch []*write, publish func(*message), log *slog.Logger) {
	s.number(batch, time.Now())
	err := s.write(batch)
	switch {
	case err != nil && !s.failing:
		log.Error("messages not kept, publishers are told to come again", logging.KeyErr, err)
	case err == nil && s.failing:
		log.Info("messages kept again")
	}
	s.failing = err != nil
	for _, w := range batch {
		if err == nil {
			publish(w.m)
		}
		w.done <- err
	}
}

// number gives a batch its seqs and ends of life.
func (s *store) number(batch []*write, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range batch {
		s.last = max(s.last+1, now.UnixMicro())
		w.m.seq, w.m.expires = s.last, now.Add(w.m.ttl).Unix()
	}
}

// write stores a batch in one transaction: all of it or nothing.
func (s *store) write(batch []*write) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	delta := make(map[string]int)
	insert := tx.Stmt(s.insert)
	for _, w := range batch {
		m := w.m
		if m.ttl <= 0 {
			continue
		}
		if m.collapse != "" {
			if err := remove(tx, delta, "topic = ? AND collapse = ?", m.topic, m.collapse); err != nil {
				return err
			}
		}
		if _, err := insert.Exec(m.seq, m.topic, m.expires, m.binary, m.collapse, m.body); err != nil {
			return err
		}
		delta[m.topic]++
	}
	if err := s.trim(tx, delta); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.account(delta)
	s.mu.Lock()
	s.published += uint64(len(batch))
	s.mu.Unlock()
	return nil
}

// remove deletes kept messages and counts them in delta.
func remove(tx *sql.Tx, delta map[string]int, where string, args ...any) error {
	rows, err := tx.Query("DELETE FROM messages WHERE "+where+" RETURNING topic", args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var topic string
		if err := rows.Scan(&topic); err != nil {
			return err
		}
		delta[topic]--
	}
	return rows.Err()
}

// trim removes the oldest messages of topics that have too many.
func (s *store) trim(tx *sql.Tx, delta map[string]int) error {
	over := make(map[string]int)
	s.mu.Lock()
	for topic, n := range delta {
		// An eighth of slack, so that a busy topic is not trimmed at each message.
		if extra := s.topics[topic] + n - s.cfg.PerTopic; extra > s.cfg.PerTopic/8 {
			over[topic] = extra
		}
	}
	s.mu.Unlock()
	for topic, n := range over {
		err := remove(tx, delta, "seq IN (SELECT seq FROM messages WHERE topic = ? ORDER BY seq LIMIT ?)", topic, n)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *store) account(delta map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, n := range delta {
		s.kept += n
		if s.topics[topic] += n; s.topics[topic] <= 0 {
			delete(s.topics, topic)
		}
	}
}

// prune removes what has expired.
func (s *store) prune(now time.Time) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	delta := make(map[string]int)
	if err := remove(tx, delta, "expires <= ?", now.Unix()); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.account(delta)
	return nil
}

// newest is the number of the newest message.
func (s *store) newest() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *store) counts() (kept int, published uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept, s.published
}

// after reads up to pageLen kept messages of topics with a greater seq, oldest first.
func (s *store) after(ctx context.Context, topics []string, seq int64, now time.Time) ([]*message, error) {
	return s.read(ctx, "AND seq > ? ORDER BY seq LIMIT ?", topics, now, seq, pageLen)
}

// latest reads the newest kept message of topics, if there is one.
func (s *store) latest(ctx context.Context, topics []string, now time.Time) ([]*message, error) {
	return s.read(ctx, "ORDER BY seq DESC LIMIT ?", topics, now, 1)
}

func (s *store) read(ctx context.Context, tail string, topics []string, now time.Time, args ...any) ([]*message, error) {
	in := strings.TrimSuffix(strings.Repeat("?,", len(topics)), ",")
	all := make([]any, 0, len(topics)+1+len(args))
	for _, t := range topics {
		all = append(all, t)
	}
	all = append(append(all, now.Unix()), args...)
	rows, err := s.db.QueryContext(ctx, "SELECT seq, topic, expires, binary, body FROM messages WHERE topic IN ("+in+") AND expires > ? "+tail, all...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*message
	for rows.Next() {
		m := &message{}
		if err := rows.Scan(&m.seq, &m.topic, &m.expires, &m.binary, &m.body); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, rows.Err()
}

func (s *store) close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("distributor: %w", err)
	}
	return nil
}
