package credential

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/pgtest"
)

// The key of RFC 8489 §9.2.2's own example.
func TestLongTermKey(t *testing.T) {
	t.Parallel()
	if got, want := LongTermKey("user", "realm", "pass").Hex(), "8493fbc53ba582fb4c044c456bdc40eb"; got != want {
		t.Errorf("LongTermKey(user, realm, pass) = %s, want %s", got, want)
	}
}

func TestNonces(t *testing.T) {
	t.Parallel()
	now := time.Now()
	n := NewNonces(time.Minute, now)
	nonce := n.Append(nil, now.Add(10*time.Second))
	if len(nonce) != NonceSize {
		t.Fatalf("nonce has %d bytes, want %d", len(nonce), NonceSize)
	}
	for _, tt := range []struct {
		name string
		at   time.Duration
		want bool
	}{{"at once", 10 * time.Second, true}, {"at the end", 70 * time.Second, true}, {"stale", 72 * time.Second, false}, {"before birth", 9 * time.Second, false}} {
		if got := n.Valid(nonce, now.Add(tt.at)); got != tt.want {
			t.Errorf("%s: Valid = %v, want %v", tt.name, got, tt.want)
		}
	}
	for i := range nonce {
		forged := append([]byte(nil), nonce...)
		forged[i] ^= 1
		if n.Valid(forged, now.Add(11*time.Second)) {
			t.Errorf("Valid accepts a nonce changed at byte %d", i)
		}
	}
	if NewNonces(time.Minute, now).Valid(nonce, now.Add(11*time.Second)) {
		t.Error("Valid accepts another maker's nonce")
	}
}

func TestParseUsers(t *testing.T) {
	t.Parallel()
	users, err := ParseUsers(strings.NewReader("# people\nring:ring\n\nann:pa:ss word\nbob:0x8493fbc53ba582fb4c044c456bdc40eb\r\n"), "ring")
	if err != nil {
		t.Fatal(err)
	}
	want := Users{"ring": LongTermKey("ring", "ring", "ring"), "ann": LongTermKey("ann", "ring", "pa:ss word"), "bob": LongTermKey("user", "realm", "pass")}
	if fmt.Sprintf("%x", map[string]Key(users)) != fmt.Sprintf("%x", map[string]Key(want)) {
		t.Errorf("ParseUsers = %x, want %x", map[string]Key(users), map[string]Key(want))
	}
	for _, bad := range []string{"ring", "ring:", ":x", "a:1\na:2", strings.Repeat("x", 600) + ":1"} {
		if _, err := ParseUsers(strings.NewReader(bad), "r"); err == nil {
			t.Errorf("ParseUsers(%.20q) succeeds", bad)
		}
	}
}

func TestRealmFind(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	r := Realm{Name: "r", Users: Users{"ann": LongTermKey("ann", "r", "x")}, Secrets: SharedSecrets{"new", "old"}}
	for _, tt := range []struct {
		user   string
		keys   int
		status Status
	}{
		{"ann", 1, Found},
		{"bob", 0, Unknown},
		{"1700000001", 2, Found},
		{"1700000001:bob", 2, Found},
		{"1699999999:bob", 0, Expired},
		{"99999999999999999999:bob", 0, Unknown},
		{"-1:bob", 0, Unknown},
	} {
		keys, status := r.Find(nil, tt.user, now)
		if len(keys) != tt.keys || status != tt.status {
			t.Errorf("Find(%q) = %d keys, %v; want %d, %v", tt.user, len(keys), status, tt.keys, tt.status)
		}
	}
	keys, _ := r.Find(nil, "1700000001:bob", now)
	if keys[1] != LongTermKey("1700000001:bob", "r", Password("old", "1700000001:bob")) {
		t.Error("the second key is not that of the second secret")
	}
}

// The password was computed with: printf '1700000000:bob' | openssl dgst -sha1 -hmac north -binary | base64
func TestPassword(t *testing.T) {
	t.Parallel()
	if got, want := Password("north", "1700000000:bob"), "7tNSWpJ3gOxGfEgOjt+kaWhBC20="; got != want {
		t.Errorf("Password = %s, want %s", got, want)
	}
}

func TestTableSQLite(t *testing.T) {
	t.Parallel()
	table, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "users.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	checkTable(t, table)
}

func TestTablePostgres(t *testing.T) {
	t.Parallel()
	table, err := OpenPostgres(t.Context(), pgtest.Start(t).NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	checkTable(t, table)
}

func checkTable(t *testing.T, table *Table) {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	realm := &Realm{Name: "r", Table: table}
	find := func(user string, at time.Time) ([]Key, Status) {
		t.Helper()
		keys, status := realm.Find(nil, user, at)
		if status == Wait {
			if err := realm.Fetch(ctx, user, at); err != nil {
				t.Fatal(err)
			}
			keys, status = realm.Find(nil, user, at)
		}
		return keys, status
	}
	if _, status := find("ann", now); status != Unknown {
		t.Errorf("before Add: %v, want %v", status, Unknown)
	}
	key := LongTermKey("ann", "r", "pw")
	if err := table.Add(ctx, "r", "ann", key); err != nil {
		t.Fatal(err)
	}
	if err := table.Add(ctx, "r", "ann", key); err != ErrExists {
		t.Errorf("second Add: %v, want %v", err, ErrExists)
	}
	if _, status := find("ann", now.Add(time.Second)); status != Unknown {
		t.Errorf("a negative answer is not kept: %v", status)
	}
	if keys, status := find("ann", now.Add(unknownFor+time.Second)); status != Found || keys[0] != key {
		t.Errorf("after Add: %v", status)
	}
	if err := table.Add(ctx, "other", "bob", key); err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := table.List(ctx, "r", func(n string) bool { names = append(names, n); return true }); err != nil || len(names) != 1 || names[0] != "ann" {
		t.Errorf("List = %v, %v", names, err)
	}
	if err := table.Delete(ctx, "r", "ann"); err != nil {
		t.Fatal(err)
	}
	if err := table.Delete(ctx, "r", "ann"); err != ErrNoUser {
		t.Errorf("second Delete: %v, want %v", err, ErrNoUser)
	}
	if _, status := find("ann", now.Add(2*foundFor)); status != Unknown {
		t.Errorf("after Delete: %v, want %v", status, Unknown)
	}
}

func TestTableCacheIsBounded(t *testing.T) {
	t.Parallel()
	table := &Table{cache: make(map[tableID]cachedKey)}
	now := time.Now()
	for i := range 3 * maxCached {
		table.remember(tableID{"r", fmt.Sprint(i)}, cachedKey{until: now.Add(time.Minute)}, now)
	}
	if len(table.cache) > maxCached {
		t.Errorf("cache holds %d users, want at most %d", len(table.cache), maxCached)
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add("ring:ring\n#\nann:0x8493fbc53ba582fb4c044c456bdc40eb")
	f.Fuzz(func(t *testing.T, s string) {
		users, err := ParseUsers(strings.NewReader(s), "r")
		if err == nil && len(users) > strings.Count(s, "\n")+1 {
			t.Errorf("%d users in %d lines", len(users), strings.Count(s, "\n")+1)
		}
	})
}
