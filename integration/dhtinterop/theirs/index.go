package theirs

import (
	"fmt"
	"regexp"
	"strings"
)

var indexEntry = regexp.MustCompile(`^\s*([0-9a-f]{40})\[vid: `)

// IndexInsert puts the place value under key, "field:content", into an index.
func (n *Node) IndexInsert(index, key, value string) error {
	line := fmt.Sprintf("ii %s %s %s", index, key, value)
	ok := false
	err := n.command(line, func(out string) bool {
		ok = strings.Contains(out, "Pht::insert: done")
		return strings.Contains(out, "Pht::insert:")
	})
	if err == nil && !ok {
		err = fmt.Errorf("dhtnode %q: failure", line)
	}
	return err
}

// IndexLookup returns the places an index holds under key.
func (n *Node) IndexLookup(index, key string) (values []string, err error) {
	err = n.command(fmt.Sprintf("il %s %s", index, key), func(out string) bool {
		if m := indexEntry.FindStringSubmatch(out); m != nil {
			values = append(values, m[1])
		}
		return strings.Contains(out, "Pht::lookup: done") || strings.Contains(out, "Pht::lookup: dht_get failed")
	})
	return values, err
}
