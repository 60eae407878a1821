package registry

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledgertest"
)

// TestTesseraReadsOurLog has the client of another implementation fetch
// checkpoint, tiles and bundles over HTTP, and check what it got.
func TestTesseraReadsOurLog(t *testing.T) {
	r, opt := newRegistry(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := g; i < 700; i += 8 {
				if _, err := r.RegisterVerified(t.Context(), ledgertest.Shape(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	srv := httptest.NewServer(NewHandler(r))
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	base, _ := url.Parse(srv.URL + "/")
	f, err := client.NewHTTPFetcher(base, srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(opt.Key.VKey())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	cp, raw, _, err := client.FetchCheckpoint(ctx, f.ReadCheckpoint, v, testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	checkWholeLog(t, ctx, f, cp.Size, cp.Hash)
	pb, err := client.NewProofBuilder(ctx, cp.Size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Prove(ctx, ledger.Subject{Name: "user-000000123"})
	if err != nil || !bytes.Equal(p.Checkpoint, raw) {
		t.Fatalf("proof is of another checkpoint: %v", err)
	}
	theirs, err := pb.InclusionProof(ctx, uint64(p.Entry.Index))
	if err != nil {
		t.Fatal(err)
	}
	for i := range theirs {
		if !bytes.Equal(theirs[i], p.Entry.Inclusion[i][:]) {
			t.Errorf("hash %d of the inclusion proof differs from tessera's", i)
		}
	}
	h := ledger.LeafHash(p.Entry.Data)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.Entry.Index), cp.Size, h[:], theirs, cp.Hash); err != nil {
		t.Error(err)
	}
	checkConsistency(t, ctx, r, pb, cp.Size, cp.Hash)
}

func checkWholeLog(t *testing.T, ctx context.Context, f *client.HTTPFetcher, size uint64, root []byte) {
	t.Helper()
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(idx []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range idx {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	for n := uint64(0); n*256 < size; n++ {
		bundle, err := client.GetEntryBundle(ctx, f.ReadEntryBundle, n, size)
		if err != nil {
			t.Fatal(err)
		}
		hashes = appendStored(t, hashes, int64(n)*256, bundle, reader)
	}
	got, err := tlog.TreeHash(int64(size), reader)
	if err != nil || !bytes.Equal(got[:], root) {
		t.Errorf("root over the bundles fetched = %v %v, checkpoint says %x", got, err, root)
	}
}

func appendStored(t *testing.T, hashes []tlog.Hash, first int64, b api.EntryBundle, r tlog.HashReader) []tlog.Hash {
	t.Helper()
	for i, e := range b.Entries {
		more, err := tlog.StoredHashes(first+int64(i), e, r)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
		r = tlog.HashReaderFunc(func(idx []int64) ([]tlog.Hash, error) {
			var out []tlog.Hash
			for _, i := range idx {
				out = append(out, hashes[i])
			}
			return out, nil
		})
	}
	return hashes
}

func checkConsistency(t *testing.T, ctx context.Context, r *Registry, pb *client.ProofBuilder, size uint64, root []byte) {
	t.Helper()
	for _, old := range []uint64{1, 2, 255, 256, 257, size - 1} {
		theirs, err := pb.ConsistencyProof(ctx, old, size)
		if err != nil {
			t.Fatal(err)
		}
		oldRoot, err := r.RootAt(ctx, int64(old))
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, old, size, theirs, oldRoot[:], root); err != nil {
			t.Errorf("consistency %d to %d: %v", old, size, err)
		}
		ours, err := r.Consistency(ctx, int64(old), int64(size))
		if err != nil || len(ours) != len(theirs) {
			t.Errorf("our consistency proof has %d hashes, tessera's %d: %v", len(ours), len(theirs), err)
		}
	}
}
