package msgpack

import (
	"encoding/binary"
	"math"
	"time"
)

// AppendNil appends nil: c0.
func AppendNil(dst []byte) []byte { return append(dst, 0xc0) }

// AppendBool appends c2 (false) or c3 (true).
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}

// AppendUint appends v in the shortest form: fixint, cc, cd, ce or cf.
func AppendUint(dst []byte, v uint64) []byte {
	switch {
	case v <= 0x7f:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

// AppendInt appends v in the shortest form; numbers that are not negative
// take the unsigned forms of [AppendUint].
func AppendInt(dst []byte, v int64) []byte {
	switch {
	case v >= 0:
		return AppendUint(dst, uint64(v))
	case v >= -32:
		return append(dst, byte(v))
	case v >= math.MinInt8:
		return append(dst, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}

// AppendStr appends s as str: fixstr, d9, da or db.
func AppendStr(dst []byte, s string) []byte {
	return append(AppendStrHeader(dst, len(s)), s...)
}

// AppendStrBytes is AppendStr for bytes.
func AppendStrBytes(dst, s []byte) []byte {
	return append(AppendStrHeader(dst, len(s)), s...)
}

// AppendStrHeader appends the header of a str of n bytes.
func AppendStrHeader(dst []byte, n int) []byte {
	switch {
	case n < 32:
		return append(dst, 0xa0|byte(n))
	case n <= math.MaxUint8:
		return append(dst, 0xd9, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xda), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
}

// AppendBinHeader appends the header of a bin of n bytes: c4, c5 or c6.
func AppendBinHeader(dst []byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(dst, 0xc4, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xc5), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xc6), uint32(n))
}

// AppendBin appends b as bin.
func AppendBin(dst, b []byte) []byte {
	return append(AppendBinHeader(dst, len(b)), b...)
}

// AppendBinText appends the bytes of s as bin.
func AppendBinText(dst []byte, s string) []byte {
	return append(AppendBinHeader(dst, len(s)), s...)
}

// AppendArrayHeader appends the header of an array of n elements.
func AppendArrayHeader(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, 0x90|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xdc), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdd), uint32(n))
}

// AppendMapHeader appends the header of a map of n pairs.
func AppendMapHeader(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, 0x80|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xde), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdf), uint32(n))
}

// AppendTime appends t as the timestamp extension (type −1) in its shortest
// form: 32, 64 or 96 bits.
func AppendTime(dst []byte, t time.Time) []byte {
	return AppendTimestamp(dst, t.Unix(), uint32(t.Nanosecond()))
}

// AppendTimestamp is AppendTime for seconds since 1970 and nanoseconds below
// 10⁹, for times a time.Time arithmetic would not carry.
func AppendTimestamp(dst []byte, sec int64, nsec uint32) []byte {
	switch {
	case uint64(sec)>>34 != 0:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xc7, 12, 0xff), nsec)
		return binary.BigEndian.AppendUint64(dst, uint64(sec))
	case nsec == 0 && sec <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd6, 0xff), uint32(sec))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd7, 0xff), uint64(nsec)<<34|uint64(sec))
}
