package msgpack

// Kind is the family of an encoded object.
type Kind uint8

// The kinds. Integers are one kind whatever their form; the sign is found on
// reading.
const (
	Invalid Kind = iota // end of input, or the unused byte c1
	Nil
	Bool
	Int
	Float
	Str
	Bin
	Array
	Map
	Ext
)

var kindNames = [...]string{"invalid", "nil", "bool", "int", "float", "str", "bin", "array", "map", "ext"}

// String names the kind in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "invalid"
}

// kindOf classifies a head byte.
func kindOf(c byte) Kind {
	switch {
	case c <= 0x7f, c >= 0xe0:
		return Int
	case c <= 0x8f:
		return Map
	case c <= 0x9f:
		return Array
	case c <= 0xbf:
		return Str
	}
	return highKinds[c-0xc0]
}

// highKinds are the kinds of head bytes c0 to df.
var highKinds = [32]Kind{
	Nil, Invalid, Bool, Bool, Bin, Bin, Bin, Ext, Ext, Ext, Float, Float, Int, Int, Int, Int,
	Int, Int, Int, Int, Ext, Ext, Ext, Ext, Ext, Str, Str, Str, Array, Array, Map, Map,
}
