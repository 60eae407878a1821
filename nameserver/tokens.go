package nameserver

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"

	"github.com/jirani/jirani/internal/config"
)

// tokenSet holds the bearer tokens that open the ledger, as hashes: looking a
// hash up tells nothing about the tokens by its timing.
type tokenSet map[[sha256.Size]byte]bool

// minToken is the fewest characters of a token: shorter ones can be guessed.
const minToken = 16

func readTokens(file config.SecretFile) (*tokenSet, error) {
	set := make(tokenSet)
	if file == "" {
		return &set, nil
	}
	text, err := file.Read()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		token, _, _ := strings.Cut(line, "#")
		if token = strings.TrimSpace(token); token == "" {
			continue
		}
		if len(token) < minToken {
			return nil, fmt.Errorf("nameserver: %s: a token has under %d characters", file, minToken)
		}
		set[sha256.Sum256([]byte(token))] = true
	}
	return &set, nil
}

// authorized reports whether r carries one of the tokens, as a bearer token or,
// for people with a browser, as the password of any user.
func (s *Server) authorized(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, token, ok = r.BasicAuth()
	}
	return ok && (*s.tokens.Load())[sha256.Sum256([]byte(token))]
}

// mayMirror reports whether the sender of r may read tiles and bundles.
func (s *Server) mayMirror(r *http.Request) bool {
	return s.cfg.Ledger.Visibility == VisibilityPublic || s.authorized(r)
}

// mayBrowse reports whether the sender of r may list entries.
func (s *Server) mayBrowse(r *http.Request) bool {
	switch s.cfg.Ledger.Visibility {
	case VisibilityPublic:
		return true
	case VisibilityToken:
		return s.authorized(r)
	default:
		return false
	}
}
