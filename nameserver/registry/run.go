package registry

import (
	"context"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/wait"
)

// Run sequences registrations, follows other replicas and keeps the published
// checkpoint, until ctx is done and the batch under way has ended.
func (r *Registry) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if !r.mirror() {
		wg.Go(func() { r.sequence(ctx) })
		wg.Go(func() { r.poll(ctx) })
	}
	if r.opt.Published != "" {
		wg.Go(func() { r.keepPublished(ctx) })
	}
	wg.Wait()
	<-ctx.Done()
	return nil
}

// poll follows the state row, which other replicas move too.
func (r *Registry) poll(ctx context.Context) {
	tick := time.NewTicker(r.opt.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := r.refresh(ctx); err != nil && ctx.Err() == nil {
				r.log.Debug("ledger state not read", "err", err)
			}
		}
	}
}

// publishedEvery bounds how far the file may lag behind: a guard one second
// old still shows any rollback of more than a second, and no batch waits for
// it.
const publishedEvery = time.Second

// keepPublished writes the last published checkpoint to its file.
func (r *Registry) keepPublished(ctx context.Context) {
	file := PublishedFile(r.opt.Published)
	for last := int64(-1); ; {
		if r.mayKeep() {
			if v := r.view.Load(); v.checkpoint.Size != last {
				if err := file.write(v.note); err != nil {
					r.log.Error("published checkpoint not kept", "err", err)
				} else {
					last = v.checkpoint.Size
				}
			}
		}
		if ctx.Err() != nil {
			return
		}
		_ = wait.For(ctx, publishedEvery)
	}
}

// mayKeep tells whether what is published may replace what the file says: not
// before the guard has compared the two.
func (r *Registry) mayKeep() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.view.Load() != nil && (r.guarded || r.mirror()) && !r.frozen()
}
