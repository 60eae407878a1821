package wire

import "errors"

// Sentinels; match with errors.Is.
var (
	// ErrMalformed marks a datagram that is no message: drop it unanswered (§2).
	ErrMalformed = errors.New("wire: malformed packet")
	// ErrUnknown marks a well-formed message of a kind we do not know.
	ErrUnknown = errors.New("wire: unknown message")
	// ErrNodeList marks a node list of odd length (§3.6).
	ErrNodeList = errors.New("wire: node list of odd length")
)
