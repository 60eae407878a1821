//go:build linux

package jamid

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaitFindsWhatCameBefore(t *testing.T) {
	s := newSignals(nil)
	s.add(Signal{Member: "started"})
	mark := s.Mark()
	s.add(Signal{Member: "messageReceived", Args: []any{"account", "conversation", map[string]string{"body": "hello"}}})
	got, err := s.Wait(t.Context(), mark, "messageReceived", func(s Signal) bool { return s.Map(2)["body"] == "hello" })
	if err != nil || got.Text(1) != "conversation" {
		t.Errorf("Wait() = %+v, %v", got, err)
	}
	if n := len(s.Since(mark)); n != 1 {
		t.Errorf("Since(mark) has %d signals, want 1", n)
	}
}

func TestWaitIgnoresWhatCameBeforeTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSignals(nil)
		s.add(Signal{Member: "started"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := s.Wait(ctx, s.Mark(), "started", nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait() = %v, want the deadline", err)
		}
	})
}

func TestWaitIsWokenAndTellsWhatItSaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSignals(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		done := make(chan error)
		go func() { // ends with its one send
			_, err := s.Wait(ctx, 0, "callStateChanged", func(s Signal) bool { return s.Text(2) == "CURRENT" })
			done <- err
		}()
		synctest.Wait()
		s.add(Signal{Member: "callStateChanged", Args: []any{"account", "call", "RINGING", int32(0)}})
		s.add(Signal{Member: "callStateChanged", Args: []any{"account", "call", "CURRENT", int32(0)}})
		if err := <-done; err != nil {
			t.Errorf("Wait() = %v", err)
		}
		_, err := s.Wait(ctx, 0, "callStateChanged", func(s Signal) bool { return s.Text(2) == "OVER" })
		if err == nil || !strings.Contains(err.Error(), "2 others") {
			t.Errorf("Wait() = %v, want it to count 2 others", err)
		}
	})
}

func TestArgumentsOfOtherTypes(t *testing.T) {
	s := Signal{Args: []any{int32(-3), uint32(7), "text", map[string]string{"key": "value"}, true}}
	for i, want := range []int{-3, 7, -1, -1, -1, -1} {
		if got := s.Int(i); got != want {
			t.Errorf("Int(%d) = %d, want %d", i, got, want)
		}
	}
	if s.Text(0) != "" || s.Text(2) != "text" || s.Text(9) != "" {
		t.Errorf("Text = %q, %q, %q", s.Text(0), s.Text(2), s.Text(9))
	}
	if s.Map(3)["key"] != "value" || s.Map(2) != nil || s.Map(9) != nil {
		t.Errorf("Map = %v, %v, %v", s.Map(3), s.Map(2), s.Map(9))
	}
}

func TestSettingsNeverReachForThePublicNetwork(t *testing.T) {
	for _, s := range []Settings{{}, {Discovery: true}, {DisplayName: "alice", TURN: TURN{Server: "192.0.2.1"}}} {
		d := s.details()
		for _, key := range []string{"Account.hostname", "RingNS.uri", "TURN.server", "Account.proxyServer"} {
			if d[key] == "" || strings.Contains(d[key], "jami.net") {
				t.Errorf("%+v: %s = %q", s, key, d[key])
			}
		}
	}
}
