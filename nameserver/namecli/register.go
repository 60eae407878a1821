package namecli

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/jirani/jirani/nameserver/nameproto"
)

const registerUsage = `NAME -server URL -key FILE [-invite TOKEN] [-json]

registers a name for an account, as a client does
FILE holds the account's RSA private key as PEM (PKCS #1 or PKCS #8, not
encrypted). A name is for ever, and an account has one.
`

// registerAnswer tells what was registered.
type registerAnswer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

func register(ctx context.Context, e *env) error {
	f := newRemoteFlags()
	server, keyFile, invite := f.String("server", "", ""), f.String("key", "", ""), f.String("invite", "", "")
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	root, err := base(*server)
	if err != nil {
		return err
	}
	key, err := readAccountKey(*keyFile)
	if err != nil {
		return err
	}
	name := nameproto.LowerASCII(args[0])
	r, err := nameproto.Sign(key, name)
	if err != nil {
		return err
	}
	if *invite != "" {
		root += "/i/" + url.PathEscape(*invite)
	}
	status, b, err := fetch(ctx, http.MethodPost, root+"/name/"+url.PathEscape(name), bytes.NewReader(nameproto.AppendRegistration(nil, r)))
	if err != nil {
		return err
	}
	var answer struct {
		Success bool
		Error   string
	}
	if err := json.Unmarshal(b, &answer); err != nil || status != http.StatusOK || !answer.Success {
		return fmt.Errorf("%s answers %d: %s", root, status, answer.Error)
	}
	a := registerAnswer{name, r.Addr.String()}
	return f.show(e, a, func(w io.Writer) { fmt.Fprintf(w, "%s belongs to %s\n", a.Name, a.Address) })
}

// maxKeyFile bounds a key file; RSA-8192 as PEM is 6.5 kB.
const maxKeyFile = 64 << 10

func readAccountKey(file string) (*rsa.PrivateKey, error) {
	if file == "" {
		return nil, fmt.Errorf("%w: -key is missing", errUsage)
	}
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxKeyFile))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", file)
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: neither PKCS #1 nor PKCS #8", file)
	}
	key, ok := any.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an RSA key", file)
	}
	return key, nil
}
