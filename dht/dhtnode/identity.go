package dhtnode

import "time"

// online is called when the first family gets connected.
func (n *Node) online(time.Time) {}

// abandon ends the operations that waited for a connection when none is to be had.
func (n *Node) abandon(time.Time) {
	for _, f := range n.families {
		for _, s := range f.searches {
			s.mark()
		}
	}
}
