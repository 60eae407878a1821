package dht

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// jsonValue is the JSON form (§5.5). Members stand in byte order of their
// names, as upstream's writer puts them.
type jsonValue struct {
	Cypher   string `json:"cypher,omitempty"`
	Data     string `json:"data"`
	ID       string `json:"id"`
	Owner    string `json:"owner,omitempty"`
	Priority uint32 `json:"prio,omitempty"`
	PushType string `json:"pt,omitempty"`
	Seq      uint16 `json:"seq"`
	Sig      string `json:"sig,omitempty"`
	To       string `json:"to,omitempty"`
	Type     uint16 `json:"type"`
	UserType string `json:"utype,omitempty"`
}

// jsonPlain leaves out seq, jsonCypher all of the body.
type jsonPlain struct {
	Data     string `json:"data"`
	ID       string `json:"id"`
	Priority uint32 `json:"prio,omitempty"`
	PushType string `json:"pt,omitempty"`
	Type     uint16 `json:"type"`
	UserType string `json:"utype,omitempty"`
}

type jsonCypher struct {
	Cypher   string `json:"cypher"`
	ID       string `json:"id"`
	Priority uint32 `json:"prio,omitempty"`
	PushType string `json:"pt,omitempty"`
}

// MarshalJSON writes the form of REST proxies and tools: the id as decimal
// text, bytes in padded base64, the owner as PEM.
func (v *Value) MarshalJSON() ([]byte, error) {
	b64 := base64.StdEncoding.EncodeToString
	id := v.ID.String()
	if v.IsEncrypted() {
		return json.Marshal(jsonCypher{b64(v.Cypher), id, v.Priority, v.PushType})
	}
	if v.Owner == nil {
		return json.Marshal(jsonPlain{b64(v.Data), id, v.Priority, v.PushType, uint16(v.Type), v.UserType})
	}
	j := jsonValue{Data: b64(v.Data), ID: id, Owner: string(v.Owner.PEM()), Priority: v.Priority,
		PushType: v.PushType, Seq: v.Seq, Sig: b64(v.Signature), Type: uint16(v.Type), UserType: v.UserType}
	if !v.To.IsZero() {
		j.To = v.To.String()
	}
	return json.Marshal(j)
}

// jsonInput is what is accepted: numbers where upstream's reader takes them.
type jsonInput struct {
	jsonValue
	ID   json.RawMessage `json:"id"`
	Type int64           `json:"type"`
}

// UnmarshalJSON reads the JSON form. An id that is missing, zero or no number
// is left 0: the receiver draws one. Base64 may lack its padding and may be
// URL-safe. Without an owner, sig, seq and to are dropped.
func (v *Value) UnmarshalJSON(b []byte) error {
	var j jsonInput
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("dht: value JSON: %v: %w", err, ErrMalformed)
	}
	*v = Value{ID: jsonID(j.ID), Priority: j.Priority, PushType: j.PushType}
	var err error
	if j.Cypher != "" {
		v.Cypher, err = debase64("cypher", j.Cypher)
		return err
	}
	v.Type, v.UserType = ValueTypeID(j.Type&math.MaxUint16), j.UserType
	if v.Data, err = debase64("data", j.Data); err != nil || j.Owner == "" {
		return err
	}
	return v.setJSONOwner(&j.jsonValue)
}

func (v *Value) setJSONOwner(j *jsonValue) (err error) {
	if v.Owner, err = ParsePublicKey([]byte(j.Owner)); err != nil {
		return err
	}
	v.Seq = j.Seq
	if j.To != "" {
		if v.To, err = ParseInfoHash(j.To); err != nil {
			return err
		}
	}
	v.Signature, err = debase64("sig", j.Sig)
	return err
}

// jsonID reads a decimal text, of which leading digits count, or a number.
func jsonID(raw json.RawMessage) ValueID {
	s := string(raw)
	if unquoted, err := strconv.Unquote(s); err == nil {
		s = strings.TrimLeft(unquoted, " ")
	}
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	id, err := strconv.ParseUint(s[:end], 10, 64)
	if err != nil {
		return 0
	}
	return ValueID(id)
}

var unURL = strings.NewReplacer("-", "+", "_", "/", "=", "", " ", "", "\n", "", "\r", "")

// debase64 reads standard or URL-safe base64 with or without padding.
func debase64(member, s string) ([]byte, error) {
	b, err := base64.RawStdEncoding.DecodeString(unURL.Replace(s))
	if err != nil {
		return nil, fmt.Errorf("dht: value JSON: %s is no base64: %w", member, ErrMalformed)
	}
	return b, nil
}
