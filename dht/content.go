package dht

import (
	"fmt"
	"maps"
	"slices"

	"github.com/jirani/jirani/internal/msgpack"
)

// The structures here are the data of values of types 1, 3, 4 and 5 (§7).
// Peers read and write them; a storing node looks at the first only.

// Message is the data of a value of TypeDhtMessage: [service, data].
type Message struct {
	Service string // not empty
	Data    []byte
}

// ImMessage is the data of a value of TypeImMessage, a text between people:
// {"id", "msg", "date", "status", "datatype", "metadatas"}.
type ImMessage struct {
	ID       uint64
	Text     string
	Date     int64 // Unix seconds
	Status   int64
	DataType string            // empty means text/plain
	Metadata map[string]string // "metadatas", sic
}

// TrustRequest is the data of a value of TypeTrustRequest, asking to become a
// contact: {"service", "conversationId", "payload", "confirm"}.
type TrustRequest struct {
	Service        string
	ConversationID string
	Payload        []byte
	Confirm        bool // an answer, not a question
}

// IceCandidates is the data of a value of TypeIceCandidates: [id, data].
type IceCandidates struct {
	ID   uint64
	Data []byte
}

// maxMetadata bounds the entries of one message's metadata.
const maxMetadata = 1024

// Append appends the encoded message.
func (m Message) Append(dst []byte) []byte {
	dst = msgpack.AppendStr(msgpack.AppendArrayHeader(dst, 2), m.Service)
	return msgpack.AppendBin(dst, m.Data)
}

// Append appends the encoded message, metadata in order of their names.
func (m ImMessage) Append(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 6)
	dst = msgpack.AppendUint(msgpack.AppendStr(dst, "id"), m.ID)
	dst = msgpack.AppendStr(msgpack.AppendStr(dst, "msg"), m.Text)
	dst = msgpack.AppendInt(msgpack.AppendStr(dst, "date"), m.Date)
	dst = msgpack.AppendInt(msgpack.AppendStr(dst, "status"), m.Status)
	dst = msgpack.AppendStr(msgpack.AppendStr(dst, "datatype"), m.DataType)
	dst = msgpack.AppendMapHeader(msgpack.AppendStr(dst, "metadatas"), len(m.Metadata))
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		dst = msgpack.AppendStr(msgpack.AppendStr(dst, k), m.Metadata[k])
	}
	return dst
}

// Append appends the encoded request.
func (q TrustRequest) Append(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 4)
	dst = msgpack.AppendStr(msgpack.AppendStr(dst, "service"), q.Service)
	dst = msgpack.AppendStr(msgpack.AppendStr(dst, "conversationId"), q.ConversationID)
	dst = msgpack.AppendBin(msgpack.AppendStr(dst, "payload"), q.Payload)
	return msgpack.AppendBool(msgpack.AppendStr(dst, "confirm"), q.Confirm)
}

// Append appends the encoded candidates.
func (c IceCandidates) Append(dst []byte) []byte {
	return msgpack.AppendBin(msgpack.AppendUint(msgpack.AppendArrayHeader(dst, 2), c.ID), c.Data)
}

// ParseMessage reads a Message. Byte slices of all contents alias b.
func ParseMessage(b []byte) (m Message, err error) {
	r := msgpack.NewReader(b)
	pair(&r)
	m = Message{Service: text(&r), Data: r.Blob()}
	return m, wrapContent(&r)
}

// ParseIceCandidates reads IceCandidates.
func ParseIceCandidates(b []byte) (c IceCandidates, err error) {
	r := msgpack.NewReader(b)
	pair(&r)
	c = IceCandidates{ID: r.Uint(), Data: r.Blob()}
	return c, wrapContent(&r)
}

// ParseImMessage reads an ImMessage; missing keys are zero.
func ParseImMessage(b []byte) (m ImMessage, err error) {
	r := msgpack.NewReader(b)
	for n := r.MapLen(); n > 0; n-- {
		switch string(key(&r)) {
		case "id":
			m.ID = r.Uint()
		case "msg":
			m.Text = text(&r)
		case "date":
			m.Date = r.Int()
		case "status":
			m.Status = r.Int()
		case "datatype":
			m.DataType = text(&r)
		case "metadatas":
			m.Metadata = texts(&r)
		default:
			r.Skip()
		}
	}
	return m, wrapContent(&r)
}

// ParseTrustRequest reads a TrustRequest; missing keys are zero.
func ParseTrustRequest(b []byte) (q TrustRequest, err error) {
	r := msgpack.NewReader(b)
	for n := r.MapLen(); n > 0; n-- {
		switch string(key(&r)) {
		case "service":
			q.Service = text(&r)
		case "conversationId":
			q.ConversationID = text(&r)
		case "payload":
			q.Payload = r.Blob()
		case "confirm":
			q.Confirm = r.Bool()
		default:
			r.Skip()
		}
	}
	return q, wrapContent(&r)
}

// pair reads the header of an array of two.
func pair(r *msgpack.Reader) {
	if r.ArrayLen() != 2 {
		r.Fail("array of two expected")
	}
}

// texts reads a map of texts.
func texts(r *msgpack.Reader) map[string]string {
	n := r.MapLen()
	if n > maxMetadata {
		r.Fail("too much metadata")
		return nil
	}
	m := make(map[string]string, n)
	for ; n > 0 && r.Err() == nil; n-- {
		k := text(r)
		m[k] = text(r)
	}
	return m
}

func wrapContent(r *msgpack.Reader) error {
	if err := r.Err(); err != nil {
		return fmt.Errorf("dht: content: %w: %w", ErrMalformed, err)
	}
	return nil
}
