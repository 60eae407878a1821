package distributor

import (
	"encoding/base64"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jirani/jirani/push/provider"
)

// maxBody is the most that a message may hold, in bytes (RFC 8030 §7.2 asks for no less).
const maxBody = 4096

// message is one published body. seq is its number in the order of commits: microseconds since 1970, made strictly
// increasing.
type message struct {
	seq      int64
	topic    string
	body     []byte
	ttl      time.Duration // 0: only for those who are listening
	expires  int64         // Unix seconds
	binary   bool          // base64 in JSON even if it happens to be UTF-8
	collapse string        // RFC 8030 Topic: replaces a kept message of the same
}

// Event names.
const (
	eventMessage   = "message"
	eventOpen      = "open"
	eventKeepalive = "keepalive"
)

// appendJSON appends the message as receivers see it.
func (m *message) appendJSON(dst []byte) []byte {
	dst = appendHead(dst, m.seq, m.expires, eventMessage, m.topic)
	dst = append(dst, `,"message":`...)
	if m.binary || !utf8.Valid(m.body) {
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, m.body)
		return append(dst, `","encoding":"base64"}`...)
	}
	dst = provider.AppendString(dst, string(m.body))
	return append(dst, '}')
}

// appendNotice appends an open or keepalive event.
func appendNotice(dst []byte, seq int64, event, topics string) []byte {
	return append(appendHead(dst, seq, 0, event, topics), '}')
}

func appendHead(dst []byte, seq, expires int64, event, topic string) []byte {
	dst = append(dst, `{"id":"`...)
	dst = append(dst, formatID(seq)...)
	dst = append(dst, `","time":`...)
	dst = strconv.AppendInt(dst, seq/1e6, 10)
	if expires > 0 {
		dst = append(dst, `,"expires":`...)
		dst = strconv.AppendInt(dst, expires, 10)
	}
	dst = append(dst, `,"event":"`...)
	dst = append(dst, event...)
	dst = append(dst, `","topic":"`...)
	dst = append(dst, topic...) // the pattern of topics needs no escapes
	return append(dst, '"')
}

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// An id is twelve characters like ntfy's: nine base-62 digits of seq, three of a checksum that tells our ids from
// another server's.
const (
	idLen  = 12
	idSeq  = 9
	maxSeq = 13537086546263552 // 62^9, in the year 2398
)

func formatID(seq int64) string {
	var b [idLen]byte
	for i := idSeq - 1; i >= 0; i-- {
		b[i] = digits[seq%62]
		seq /= 62
	}
	copy(b[idSeq:], checksum(b[:idSeq]))
	return string(b[:])
}

func checksum(b []byte) []byte {
	h := fnv.New32a()
	h.Write(b)
	n := h.Sum32()
	return []byte{digits[n%62], digits[n/62%62], digits[n/3844%62]}
}

// parseID returns the number of an id of ours.
func parseID(s string) (seq int64, ok bool) {
	if len(s) != idLen || string(checksum([]byte(s[:idSeq]))) != s[idSeq:] {
		return 0, false
	}
	for i := range idSeq {
		d := strings.IndexByte(digits, s[i])
		if d < 0 {
			return 0, false
		}
		seq = seq*62 + int64(d)
	}
	return seq, true
}

// position is where a receiver wants to begin.
type position struct {
	after  int64 // messages with a greater seq
	replay bool  // there may be some already
	latest bool  // only the newest one that is kept
}

// parseSince reads the since parameter. An id of another server means everything, which is what the receiver would
// miss otherwise; anything unintelligible is an error.
func parseSince(s string, poll bool, now time.Time) (position, bool) {
	switch s {
	case "":
		return position{replay: poll}, true
	case "all":
		return position{replay: true}, true
	case "none":
		return position{}, true
	case "latest":
		return position{replay: true, latest: true}, true
	}
	if seq, ok := parseID(s); ok {
		return position{after: seq, replay: true}, true
	}
	if unix, err := strconv.ParseInt(s, 10, 64); err == nil && unix >= 0 && unix < maxSeq/1_000_000 {
		return position{after: max(unix*1e6-1, 0), replay: true}, true
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return position{after: max(now.Add(-d).UnixMicro()-1, 0), replay: true}, true
	}
	if len(s) == idLen && topicPattern.MatchString(s) {
		return position{replay: true}, true
	}
	return position{}, false
}
