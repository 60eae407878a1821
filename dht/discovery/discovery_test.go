package discovery

import (
	"testing"
	"time"
)

func TestScheduleEndsInSilence(t *testing.T) {
	t.Parallel()
	var s schedule
	for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
		if got, more := s.next(); got != want || !more {
			t.Fatalf("next = %v, %v; want %v", got, more, want)
		}
	}
	if got, more := s.next(); more {
		t.Fatalf("after the last: %v", got)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	var b answerBudget
	now := time.Unix(1000, 0)
	given := 0
	for range 3 * maxAnswers {
		if b.take(now) {
			given++
		}
	}
	if given != maxAnswers || !b.take(now.Add(time.Second)) {
		t.Fatalf("%d answers in one second", given)
	}
}

func TestAnnouncementHoldsWhatIsPublished(t *testing.T) {
	t.Parallel()
	d := &Discovery{refresh: make(chan struct{}, 1), want: map[string]func(Found){}}
	if p := d.announcement(false); p != nil {
		t.Fatalf("nothing published, announced %x", p)
	}
	object := func(b byte) Publication { return func(bool) []byte { return []byte{b} } }
	d.Publish("a", object(1))
	d.Publish("b", object(2))
	d.Publish("a", object(3))
	d.Publish("only6", func(v6 bool) []byte {
		if v6 {
			return []byte{6}
		}
		return nil
	})
	_, services, err := Parse(d.announcement(false))
	if err != nil || len(services) != 2 || services[0].Name != "b" || services[1].Object[0] != 3 {
		t.Fatalf("announced %v, %v", services, err)
	}
	if _, services, _ = Parse(d.announcement(true)); len(services) != 3 {
		t.Fatalf("announced over IPv6 %v", services)
	}
	d.Unpublish("a")
	d.Unpublish("b")
	if p := d.announcement(false); p != nil {
		t.Fatalf("all withdrawn, announced %x", p)
	}
}
