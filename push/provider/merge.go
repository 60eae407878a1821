package provider

import "strings"

// callTypes are the push types of a value that rings a telephone (docs/protocols/dhtproxy.md §5, pt).
var callTypes = []string{"audioCall", "videoCall"}

// IsCall reports whether the push types of d name a call.
func (d Data) IsCall() bool {
	pt, _ := d.Get("pt")
	if pt == "" {
		return false
	}
	for _, c := range callTypes {
		if strings.Contains(pt, c) {
			return true
		}
	}
	return false
}

// MaxMergedIDs bounds the ids of one message, so that a merged one stays well under every provider's 4096 bytes.
const MaxMergedIDs = 60

// maxMerged bounds merged data in bytes; the rest of 4096 is for what providers put around it.
const maxMerged = 3200

// CoalesceKey names the messages that d may be merged with, among those for the same token; "" for none. Events
// about values of one InfoHash for one client share a key. Renewal reminders merge only with their own repeat.
func (d Data) CoalesceKey() string {
	to, _ := d.Get("to")
	if key, ok := d.Get("key"); ok {
		return "k\x00" + key + "\x00" + to
	}
	if key, ok := d.Get("timeout"); ok {
		vid, _ := d.Get("vid")
		return "t\x00" + key + "\x00" + to + "\x00" + vid
	}
	return ""
}

// Merge combines older and newer messages that have the same CoalesceKey and token, and reports false when the
// result would be too large. Everything is the newer one's except:
//
//   - ids are joined, each once, with pt kept in step; if either side lists no ids, neither does the result,
//     for a client takes a missing list as "look at all of the key";
//   - exp survives only if both sides have it: a list that mixes expired and live values would hide the live ones;
//   - the higher priority wins, and brings its kind and alert; the later deadline wins.
func Merge(older, newer *Message) (*Message, bool) {
	out := *newer
	if older.Priority > newer.Priority {
		out.Priority, out.Kind = older.Priority, older.Kind
		out.Title, out.Body, out.Mutable = older.Title, older.Body, older.Mutable
	}
	if older.ExpiresAt.After(out.ExpiresAt) {
		out.ExpiresAt = older.ExpiresAt
	}
	if older.RegisteredAt.After(out.RegisteredAt) {
		out.RegisteredAt = older.RegisteredAt
	}
	out.TTLGiven = older.TTLGiven || newer.TTLGiven
	data, ok := mergeData(older.Data, newer.Data)
	out.Data = data
	return &out, ok
}

func mergeData(older, newer Data) (Data, bool) {
	if _, values := newer.Get("key"); !values {
		return newer, true // a repeated reminder
	}
	out := newer
	ids, pts, n := union(older, newer)
	switch {
	case n > MaxMergedIDs:
		return nil, false
	case n > 0:
		out = out.With("ids", ids)
	default:
		out = out.Without("ids")
	}
	if has(newer, "pt") || has(older, "pt") {
		out = out.With("pt", pts)
	}
	expOld, okOld := older.Get("exp")
	expNew, okNew := newer.Get("exp")
	if okOld && okNew {
		out = out.With("exp", joinOnce(expOld, expNew))
	} else {
		out = out.Without("exp")
	}
	return out, out.Size() <= maxMerged
}

func has(d Data, name string) bool { _, ok := d.find(name); return ok }

// union joins the ids of both sides, oldest first, and their push types in the same order. n is 0 when a side
// lists none; the push types are then joined as they are, for they still mark a call.
func union(older, newer Data) (ids, pts string, n int) {
	a, okA := older.Get("ids")
	b, okB := newer.Get("ids")
	ptA, _ := older.Get("pt")
	ptB, _ := newer.Get("pt")
	if !okA || !okB || a == "" || b == "" {
		return "", strings.Trim(ptA+","+ptB, ","), 0
	}
	seen := make(map[string]bool)
	var idList, ptList []string
	for _, side := range [][2]string{{a, ptA}, {b, ptB}} {
		types := strings.Split(side[1], ",")
		for i, id := range strings.Split(side[0], ",") {
			if seen[id] {
				continue
			}
			seen[id] = true
			idList = append(idList, id)
			if i < len(types) {
				ptList = append(ptList, types[i])
			} else {
				ptList = append(ptList, "")
			}
		}
	}
	return strings.Join(idList, ","), strings.Join(ptList, ","), len(idList)
}

func joinOnce(a, b string) string {
	list := strings.Split(a, ",")
	for id := range strings.SplitSeq(b, ",") {
		if !strings.Contains(","+a+",", ","+id+",") {
			list = append(list, id)
		}
	}
	return strings.Join(list, ",")
}
