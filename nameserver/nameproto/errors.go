package nameproto

import (
	"errors"
	"net/http"
)

var (
	// ErrMalformed is wrapped by every decoding error. A server answers 400.
	ErrMalformed = errors.New("nameproto: malformed")
	// ErrSignature says that the key, the address and the signature of a
	// registration do not belong together. A server answers 401.
	ErrSignature = errors.New("nameproto: signature does not verify")
)

// Statuses that clients of every era understand (docs/protocols/nameserver.md
// §3–§5). Any other 4xx is shown to the user as "already taken" when it
// answers a registration and as "not found" when it answers a lookup, which
// may make a client forget its own name: a server that cannot decide says
// [StatusUnavailable].
const (
	// StatusOK answers what was found or registered.
	StatusOK = http.StatusOK
	// StatusMalformed answers a request that can never succeed: a body that is
	// not a registration, or a name that cannot exist.
	StatusMalformed = http.StatusBadRequest
	// StatusSignature answers a registration whose signature does not verify.
	StatusSignature = http.StatusUnauthorized
	// StatusRefused answers a registration of a name that is taken, reserved or
	// not open to this client.
	StatusRefused = http.StatusForbidden
	// StatusNotFound answers a lookup of what certainly does not exist.
	StatusNotFound = http.StatusNotFound
	// StatusUnavailable answers everything that may succeed later: not ready,
	// over a limit, no storage. Never 429, which reads as "taken".
	StatusUnavailable = http.StatusServiceUnavailable
)
