package distributor

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Exempt, c.PublishRate, c.PerAddress, c.PerTopic, c.MaxMessages = nil, 5, 2, 3, 4
	})
	for i := range 5 {
		if status, _ := r.publish("upA", fmt.Sprint(i)); status != 200 {
			t.Fatalf("publish %d: %d", i, status)
		}
	}
	if status, _ := r.publish("upA", "x"); status != 429 {
		t.Errorf("sixth publish in a minute: %d", status)
	}
	s := r.subscribe("json", "upA", "poll=1")
	<-s.ended
	if n := len(s.events); n != 3 {
		t.Errorf("%d messages kept of a topic, want 3", n)
	}
	a, b := r.subscribe("json", "upA", ""), r.subscribe("ws", "upA", "")
	a.next(eventOpen)
	b.next(eventOpen)
	res, err := http.Get(r.http.URL + "/upA/json")
	if err != nil || res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Errorf("third stream: %v %v", res, err)
	}
	res.Body.Close()
	u, _ := url.Parse(r.cfg.URL + "/upB")
	if err := r.s.Publish(t.Context(), u, []byte("x"), false, time.Hour); err != nil {
		t.Error(err)
	}
	if err := r.s.Publish(t.Context(), u, []byte("x"), false, time.Hour); err != errStoreFull {
		t.Errorf("fifth kept message: %v", err)
	}
	a.close()
	b.close()
	for deadline := time.Now().Add(5 * time.Second); r.s.Stats().Receivers > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("receivers stay: %+v", r.s.Stats())
		}
		<-time.After(time.Millisecond)
	}
}

func TestExpiry(t *testing.T) {
	r := newRig(t, nil)
	r.publish("upE", "short", "TTL", "1")
	r.publish("upE", "long", "TTL", "3600")
	got, err := r.s.store.after(t.Context(), []string{"upE"}, 0, time.Now().Add(time.Minute))
	if err != nil || len(got) != 1 || string(got[0].body) != "long" {
		t.Errorf("after a minute: %v, %v", got, err)
	}
	if err := r.s.store.prune(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if kept := r.s.Stats().Kept; kept != 1 {
		t.Errorf("%d kept after pruning", kept)
	}
}

func TestRates(t *testing.T) {
	r, a := newRates(60), netip.MustParseAddr("192.0.2.1")
	now := time.Unix(1e9, 0)
	for i := range 60 {
		if w := r.take(a, now); w != 0 {
			t.Fatalf("message %d must wait %v", i, w)
		}
	}
	if w := r.take(a, now); w != time.Second {
		t.Errorf("61st must wait %v, want 1s", w)
	}
	if w := r.take(netip.MustParseAddr("192.0.2.2"), now); w != 0 {
		t.Errorf("another address must wait %v", w)
	}
	if w := r.take(a, now.Add(time.Second)); w != 0 {
		t.Errorf("after a second: %v", w)
	}
}
