package namecli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/policy"
)

// patience bounds one request: a registration may be held for 50 s.
const patience = 60 * time.Second

// fetch asks the server and returns status and body.
func fetch(ctx context.Context, method, target string, body io.Reader) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, ledger.MaxProof+1))
	return res.StatusCode, b, err
}

// base returns the server's URL without a trailing slash; without a scheme it
// is HTTPS, as clients have it.
func base(server string) (string, error) {
	if server == "" {
		return "", fmt.Errorf("%w: -server is missing", errUsage)
	}
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	return strings.TrimSuffix(server, "/"), nil
}

const lookupUsage = `NAME|ADDRESS -server URL -vkey KEY [-save FILE] [-json]

looks a name or an account up and checks the ledger's proof
KEY is the ledger's verifier key, which its operator publishes; with "-vkey
ask" the server's own word is taken for it, which proves consistency only.
-save keeps the proof, for proof verify. Exit code 1 if nothing is registered.
`

// verdictAnswer is what a proof proves.
type verdictAnswer struct {
	Query        string     `json:"query"`
	Found        bool       `json:"found"`
	Name         string     `json:"name,omitempty"`
	Address      string     `json:"address,omitempty"`
	Index        int64      `json:"index,omitempty"`
	RegisteredAt *time.Time `json:"registered_at,omitempty"`
	Burnt        string     `json:"burnt,omitempty"` // reason
	Origin       string     `json:"origin"`
	Size         int64      `json:"size"`
	VKey         string     `json:"vkey"`
	Evidence     bool       `json:"evidence"` // the account's own signature was checked
}

// errNotRegistered makes a command that proved an absence fail, quietly.
var errNotRegistered = errors.New("not registered")

func lookup(ctx context.Context, e *env) error {
	f := newRemoteFlags()
	server, vkey, save := f.String("server", "", ""), f.String("vkey", "", ""), f.String("save", "", "")
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	root, err := base(*server)
	if err != nil {
		return err
	}
	if *vkey == "ask" {
		status, b, err := fetch(ctx, http.MethodGet, root+"/ledger/vkeys", nil)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("%s answers %d when asked for its key", root, status)
		}
		*vkey, _, _ = strings.Cut(string(b), "\n")
	}
	subject, path, err := subjectOf(args[0])
	if err != nil {
		return err
	}
	status, b, err := fetch(ctx, http.MethodGet, root+path, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s answers %d: %s", root, status, b)
	}
	var p ledger.Proof
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	if p.Subject.MapKey() != subject.MapKey() {
		return fmt.Errorf("%w: the server proves something about another name", ledger.ErrProof)
	}
	return conclude(f, e, args[0], p, *vkey, *save)
}

// subjectOf tells names from account ids.
func subjectOf(text string) (ledger.Subject, string, error) {
	if a, err := nameproto.ParseAddress(text); err == nil {
		addr := ledger.Address(a)
		return ledger.Subject{Address: &addr}, "/v1/addresses/" + a.String() + "/proof", nil
	}
	key, err := policy.Names{Unicode: true, MinLength: 1, MaxLength: 64}.Key(text)
	return ledger.Subject{Name: key}, "/v1/names/" + url.PathEscape(key) + "/proof", err
}

// conclude checks a proof, keeps it if asked to, and prints the verdict.
func conclude(f *flags, e *env, query string, p ledger.Proof, vkey, save string) error {
	a, err := judge(query, p, vkey)
	if err != nil {
		return err
	}
	if save != "" {
		text, err := p.MarshalText()
		if err != nil {
			return err
		}
		if err := os.WriteFile(save, text, 0o644); err != nil {
			return err
		}
	}
	if err := f.show(e, a, a.text); err != nil {
		return err
	}
	if !a.Found {
		return fmt.Errorf("%s is %w, as the ledger of %s proves", query, errNotRegistered, a.Origin)
	}
	return nil
}

func judge(query string, p ledger.Proof, vkey string) (verdictAnswer, error) {
	if vkey == "" {
		return verdictAnswer{}, service.Hint(fmt.Errorf("%w: -vkey is missing", errUsage), "ledger stat shows it at the server")
	}
	v, err := ledger.ParseVerifier(vkey)
	if err != nil {
		return verdictAnswer{}, err
	}
	verdict, err := p.Verify(v.Name(), note.VerifierList(v))
	if err != nil {
		return verdictAnswer{}, service.Hint(err, "do not believe this server before you know why")
	}
	a := verdictAnswer{Query: query, Origin: verdict.Checkpoint.Origin, Size: verdict.Checkpoint.Size, VKey: vkey, Evidence: p.Evidence != nil}
	switch entry := verdict.Entry.(type) {
	case *ledger.Register:
		t := entry.Time()
		a.Found, a.Name, a.Address, a.Index, a.RegisteredAt = true, entry.Name, entry.Address.String(), verdict.Index, &t
	case *ledger.Tombstone:
		a.Burnt = entry.Reason
	}
	return a, nil
}

func (a verdictAnswer) text(w io.Writer) {
	if !a.Found {
		return // the error says it
	}
	signed := "the account's own signature"
	if !a.Evidence {
		signed = "without the account's signature"
	}
	fmt.Fprintf(w, "name        %s\naccount     %s\nregistered  %s, entry %d\nproven by   %s at %d entries, %s\n",
		a.Name, a.Address, a.RegisteredAt.Format(time.RFC3339), a.Index, a.Origin, a.Size, signed)
}

const proofUsage = `FILE -vkey KEY [-json]

checks a saved proof, in text or JSON form, without any network
`

func proofVerify(_ context.Context, e *env) error {
	f := newRemoteFlags()
	vkey := f.String("vkey", "", "")
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	file, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, ledger.MaxProof+1))
	if err != nil {
		return err
	}
	var p ledger.Proof
	if strings.HasPrefix(strings.TrimSpace(string(b)), "{") {
		err = json.Unmarshal(b, &p)
	} else {
		err = p.UnmarshalText(b)
	}
	if err != nil {
		return err
	}
	query := p.Subject.Name
	if p.Subject.Address != nil {
		query = p.Subject.Address.String()
	}
	return conclude(f, e, query, p, *vkey, "")
}
