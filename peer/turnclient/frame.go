package turnclient

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

const (
	channelHeader = 4 // ChannelData: channel number, length of data, two bytes each (RFC 8656 §12.4)
	// maxPayload is the longest datagram sent: in a Send indication to an IPv6 peer the length field just counts it.
	maxPayload = 65500
	// maxFrame bounds what the server may send at once: the longest ChannelData on a stream, or a Data indication that is as long.
	maxFrame = headerSize + 65535
)

// frameSize returns the length of the frame that begins with these four bytes on a stream: a STUN message, whose length field leaves its
// header out and is a multiple of four, or ChannelData, whose padding its length field leaves out (RFC 8656 §12.5). It returns -1 if no
// frame begins so.
func frameSize(head []byte) int {
	n := int(binary.BigEndian.Uint16(head[2:]))
	switch {
	case head[0]&0xC0 == 0 && n%4 == 0:
		return headerSize + n
	case isChannelData(head):
		return channelHeader + (n+3)&^3
	}
	return -1
}

func isChannelData(b []byte) bool { return len(b) >= channelHeader && b[0]&0xC0 == 0x40 }

// readFrame reads one frame from a stream, and not a byte of the next. It uses buf if that is long enough.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	buf = slices.Grow(buf[:0], headerSize)[:channelHeader]
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, err
	}
	size := frameSize(buf)
	if size < 0 || size > maxFrame {
		return nil, fmt.Errorf("%w: stream without a frame", ErrMalformed)
	}
	buf = slices.Grow(buf, size-channelHeader)[:size]
	_, err := io.ReadFull(r, buf[channelHeader:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return buf, err
}

// channelData splits a ChannelData frame. Bytes behind the data are padding.
func channelData(b []byte) (number uint16, data []byte, ok bool) {
	if !isChannelData(b) {
		return 0, nil, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b)-channelHeader {
		return 0, nil, false
	}
	return binary.BigEndian.Uint16(b), b[channelHeader : channelHeader+n], true
}

// appendChannelData appends a frame, with the padding that streams want.
func appendChannelData(dst []byte, number uint16, data []byte, stream bool) []byte {
	dst = binary.BigEndian.AppendUint16(dst, number)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(data)))
	dst = append(dst, data...)
	if pad := -len(data) & 3; stream {
		dst = append(dst, make([]byte, pad)...)
	}
	return dst
}
