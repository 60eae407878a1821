package distributor

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// TestResume is the life of a phone: it receives, loses its connection, comes back with the last id it saw, and
// the server is restarted in between. Nothing may be missing, doubled or out of order.
func TestResume(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			s := r.subscribe(kind, "upA,upB", "since=none")
			if open := s.next(eventOpen); open.Topic != "upA,upB" || len(open.ID) != 12 {
				t.Errorf("open event %+v", open)
			}
			n, last := 0, ""
			send := func(topic string) {
				n++
				if status, e := r.publish(topic, fmt.Sprint("m", n)); status != 200 || e.Message != fmt.Sprint("m", n) {
					t.Fatalf("publish: %d %+v", status, e)
				}
			}
			got := 0
			receive := func() {
				t.Helper()
				e := s.next(eventMessage)
				got++
				if e.Message != fmt.Sprint("m", got) || (e.Topic != "upA" && e.Topic != "upB") {
					t.Fatalf("received %+v, want m%d", e, got)
				}
				last = e.ID
			}
			send("upA")
			send("upB")
			receive()
			receive()
			s.close()
			send("upA")
			s = r.subscribe(kind, "upA,upB", "since="+last)
			receive()
			send("upB")
			receive()
			s.close()
			send("upA")
			send("upC") // not ours
			r.restart()
			got0 := got
			s = r.subscribe(kind, "upA,upB", "since="+last)
			if e := s.next(eventMessage); e.Message != fmt.Sprint("m", got0+1) {
				t.Fatalf("after restart: %+v", e)
			}
			got++
			send("upB")
			got++ // m6 went to upC
			receive()
			select {
			case e := <-s.events:
				if e.Event == eventMessage {
					t.Errorf("extra message %+v", e)
				}
			default:
			}
		})
	}
}

// TestRestartUnderLoad restarts the server while messages come in and a receiver reconnects with since each time:
// every message answered with 200 arrives exactly once.
func TestRestartUnderLoad(t *testing.T) {
	r := newRig(t, func(c *Config) { c.PerTopic = 10_000 })
	var accepted []string
	received := map[string]int{}
	last := "all"
	for round := range 4 {
		s := r.subscribe(kinds[round%3], "upL", "since="+last)
		for i := range 200 {
			body := fmt.Sprintf("%d/%d", round, i)
			if status, _ := r.publish("upL", body); status == 200 {
				accepted = append(accepted, body)
			}
			if i == 150 {
				for range 20 {
					e := s.next(eventMessage)
					received[e.Message]++
					last = e.ID
				}
				s.close()
			}
		}
		r.restart()
	}
	s := r.subscribe("json", "upL", "poll=1&since="+last)
	<-s.ended
	for len(s.events) > 0 {
		received[(<-s.events).Message]++
	}
	for _, body := range accepted {
		if received[body] != 1 {
			t.Errorf("%s received %d times", body, received[body])
		}
	}
}

func TestSlowReceiverCatchesUp(t *testing.T) {
	r := newRig(t, func(c *Config) { c.PerTopic = 10_000 })
	s := r.subscribe("json", "upS", "")
	s.next(eventOpen)
	const n = 1500
	for i := range n {
		u, _ := url.Parse(r.cfg.URL + "/upS")
		if err := r.s.Publish(t.Context(), u, []byte(fmt.Sprint(i)), false, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if e := s.next(eventMessage); e.Message != fmt.Sprint(i) {
			t.Fatalf("message %d is %+v", i, e)
		}
	}
}

func TestSinceForms(t *testing.T) {
	r := newRig(t, nil)
	before := time.Now().Unix() - 5
	var ids []string
	for i := range 3 {
		_, e := r.publish("upF", fmt.Sprint(i))
		ids = append(ids, e.ID)
	}
	for query, want := range map[string]string{
		"poll=1":                              "012",
		"poll=1&since=all":                    "012",
		"poll=1&since=none":                   "",
		"poll=1&since=latest":                 "2",
		"poll=1&since=10m":                    "012",
		fmt.Sprint("poll=1&since=", before):   "012",
		"poll=true&since=" + ids[0]:           "12",
		"poll=1&since=" + ids[2]:              "",
		"poll=1&since=LaZ68JP2SJ95":           "012", // another server's id
		"po=1&si=" + ids[1]:                   "2",
		"poll=1&since=" + fmt.Sprint(1<<33-1): "",
	} {
		s := r.subscribe("json", "upF", query)
		<-s.ended
		got := ""
		for len(s.events) > 0 {
			got += (<-s.events).Message
		}
		if query != "poll=1&since=none" && got != want {
			t.Errorf("%s gave %q, want %q", query, got, want)
		}
	}
	res, err := http.Get(r.http.URL + "/upF/json?since=yesterday")
	if err != nil || res.StatusCode != 400 {
		t.Errorf("since=yesterday: %v %v", res, err)
	}
	res.Body.Close()
}
