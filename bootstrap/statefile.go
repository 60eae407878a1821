package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/state"
	"github.com/jirani/jirani/internal/logging"
)

// loadState reads the state file. A damaged one is put aside; only a file that is there and may not be read is an error, since the
// operator wanted it used.
func (s *Server) loadState() (*state.State, error) {
	if s.cfg.StateFile == "" {
		return &state.State{}, nil
	}
	saved, err := state.Load(s.cfg.StateFile, time.Now(), dhtcrypto.Types(nil).Lifetime)
	switch {
	case err == nil:
		return saved, nil
	case errors.Is(err, fs.ErrNotExist):
		return &state.State{}, nil
	case errors.Is(err, state.ErrDamaged):
		aside := s.cfg.StateFile + ".damaged"
		s.log.Warn("state file damaged, starting with an empty table", logging.KeyPath, aside, logging.KeyErr, err)
		if err := os.Rename(s.cfg.StateFile, aside); err != nil {
			s.log.Warn("damaged state file not put aside", logging.KeyErr, err)
		}
		return &state.State{}, nil
	}
	return nil, fmt.Errorf("bootstrap: %w", err)
}

// restore gives the node what it knew.
func (s *Server) restore(saved *state.State) {
	if len(saved.Nodes)+len(saved.Values) == 0 {
		return
	}
	taken := s.node.Import(saved)
	s.log.Info("state restored", "nodes", len(saved.Nodes), "values", taken, "skipped", saved.Skipped)
}

// keepState writes the state file at once, so that what cannot be written is said at the start, and then from time to time until ctx is
// done.
func (s *Server) keepState(ctx context.Context) {
	if s.cfg.StateFile == "" {
		return
	}
	s.saveState(time.Now())
	tick := time.NewTicker(s.cfg.StateInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.saveState(now)
		}
	}
}

// saveState writes the state file. The first failure in a row is logged, and the recovery; all are counted.
func (s *Server) saveState(now time.Time) {
	if s.cfg.StateFile == "" {
		return
	}
	err := state.Save(s.cfg.StateFile, s.node.Export())
	if err != nil {
		s.metrics.saveErrors.Add(1)
		if !s.metrics.failing.Swap(true) {
			s.log.Error("state file not written, serving on", logging.KeyPath, s.cfg.StateFile, logging.KeyErr, err)
		}
		return
	}
	s.metrics.saves.Add(1)
	s.metrics.savedAt.Store(now.Unix())
	if s.metrics.failing.Swap(false) {
		s.log.Info("state file written again", logging.KeyPath, s.cfg.StateFile)
	}
}
