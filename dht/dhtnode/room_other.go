//go:build !unix

package dhtnode

func newRoom(size int) []byte { return make([]byte, size) }

func freeRoom([]byte) {}
