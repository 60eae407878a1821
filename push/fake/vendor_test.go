package fake_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/fake"
	"github.com/jirani/jirani/push/provider"
)

var (
	vFCM  = vendors[0]
	vAPNs = vendors[1]
	vUP   = vendors[2]
)

// TestCredentialsOverADay sends every ten minutes for a day: provider tokens and access tokens end many times,
// and no message may be refused for it.
func TestCredentialsOverADay(t *testing.T) {
	for _, v := range vendors {
		t.Run(v.name, func(t *testing.T) {
			run(t, nil, func(w *world) {
				for i := range 144 {
					w.must(fmt.Sprint(i), w.message(v, fmt.Sprint("dev", i), value(i), provider.High))
					sleep(10 * time.Minute)
				}
				w.wantAll(144, dispatch.Delivered)
				if n := len(v.sim(w).Answers()); n > 2 { // success, and the token endpoint's
					t.Errorf("answers: %v", v.sim(w).Answers())
				}
				if v.name == "fcm" && (w.FCM.Issued() < 24 || w.FCM.Issued() > 30) {
					t.Errorf("%d access tokens in a day", w.FCM.Issued())
				}
			})
		})
	}
}

func TestRevokedAccessToken(t *testing.T) {
	run(t, nil, func(w *world) {
		w.must("a", w.message(vFCM, "a", value(1), provider.High))
		sleep(time.Second)
		w.FCM.Revoke()
		w.must("b", w.message(vFCM, "b", value(1), provider.High))
		sleep(time.Second)
		w.want("a", dispatch.Delivered)
		w.want("b", dispatch.Delivered)
		if w.FCM.Issued() != 2 {
			t.Errorf("%d access tokens", w.FCM.Issued())
		}
	})
}

// fate is what a fault must lead to.
type fate struct {
	fault  fake.Fault
	status dispatch.Status
	reason provider.Reason
}

func fates(t *testing.T, v vendor, list ...fate) {
	t.Helper()
	for _, f := range list {
		run(t, func(s *setup) { s.fake.Faults = []fake.Fault{f.fault} }, func(w *world) {
			w.must("m", w.message(v, "x", value(1), provider.High))
			sleep(time.Second)
			w.want("m", f.status)
			if got := w.results["m"].Reason; got != f.reason {
				t.Errorf("%+v: reason %s, want %s", f.fault, got, f.reason)
			}
		})
	}
}

func TestFCMErrors(t *testing.T) {
	fates(t, vFCM,
		fate{fake.Fault{Status: 404}, dispatch.Dead, provider.ReasonUnregistered},
		fate{fake.Fault{Status: 403}, dispatch.Dead, provider.ReasonMismatch},
		fate{fake.Fault{Status: 400}, dispatch.Dead, provider.ReasonBadToken},
		fate{fake.Fault{Status: 400, Reason: "OTHER"}, dispatch.Dropped, provider.ReasonPayload},
	)
}

// TestFCMProjectQuota: a 429 that names no device holds them all.
func TestFCMProjectQuota(t *testing.T) {
	run(t, func(s *setup) { s.fake.Faults = []fake.Fault{{Token: "p", Status: 429, Times: 1}} }, func(w *world) {
		w.must("m", w.message(vFCM, "p", value(1), provider.High))
		sleep(time.Second)
		w.must("other", w.message(vFCM, "q", value(1), provider.High))
		sleep(58 * time.Second)
		if n := w.FCM.Tries("q"); n != 0 {
			t.Error("the project's quota was asked again within a minute")
		}
		sleep(10 * time.Second)
		w.wantAll(2, dispatch.Delivered)
	})
}

func TestAPNsErrors(t *testing.T) {
	fates(t, vAPNs,
		fate{fake.Fault{Status: 410}, dispatch.Dead, provider.ReasonUnregistered},
		fate{fake.Fault{Status: 400}, dispatch.Dead, provider.ReasonBadToken},
		fate{fake.Fault{Status: 400, Reason: "DeviceTokenNotForTopic"}, dispatch.Dropped, provider.ReasonMismatch},
		fate{fake.Fault{Status: 413}, dispatch.Dropped, provider.ReasonTooLarge},
	)
}

// TestAPNsTimestamp: a 410 that is older than the device's last registration is old news.
func TestAPNsTimestamp(t *testing.T) {
	script := func(s *setup) { s.fake.Faults = []fake.Fault{{Token: "dev", Status: 410, Age: time.Hour, Times: 1}} }
	run(t, script, func(w *world) {
		m := w.message(vAPNs, "dev", value(1), provider.High)
		m.RegisteredAt = time.Now().Add(-time.Minute)
		w.must("m", m)
		sleep(20 * time.Second)
		w.want("m", dispatch.Delivered)
	})
	run(t, script, func(w *world) {
		m := w.message(vAPNs, "dev", value(1), provider.High)
		m.RegisteredAt = time.Now().Add(-2 * time.Hour)
		w.must("m", m)
		sleep(20 * time.Second)
		w.want("m", dispatch.Dead)
		if len(w.deaths) != 1 || !w.deaths[0].At.Before(time.Now().Add(-59*time.Minute)) {
			t.Errorf("deaths: %+v", w.deaths)
		}
	})
}

func TestAPNsCertificate(t *testing.T) {
	run(t, func(s *setup) { s.cert = true }, func(w *world) {
		w.must("m", w.message(vAPNs, "dev", value(1), provider.High))
		sleep(time.Second)
		w.want("m", dispatch.Delivered)
	})
}

func TestAPNsRefusedKeyKeepsMessages(t *testing.T) {
	script := func(s *setup) {
		s.fake.Faults = []fake.Fault{{Status: 403, For: 90 * time.Second}}
	}
	run(t, script, func(w *world) {
		for i := range 10 {
			w.must(fmt.Sprint(i), w.message(vAPNs, fmt.Sprint("dev", i), value(i), provider.High))
		}
		sleep(5 * time.Minute)
		w.wantAll(10, dispatch.Delivered)
		if n := w.APNs.Answers()[403]; n > 12 {
			t.Errorf("asked %d times with refused credentials", n)
		}
	})
}

func TestAPNsKinds(t *testing.T) {
	run(t, nil, func(w *world) {
		for i, kind := range []provider.Kind{provider.Alert, provider.Background, provider.VoIP} {
			m := w.message(vAPNs, kind.String(), value(i), provider.Normal)
			m.Kind = kind
			if kind == provider.VoIP {
				m.Priority = provider.High
			}
			w.must(kind.String(), m)
		}
		sleep(5 * time.Second)
		w.wantAll(3, dispatch.Delivered)
		for _, p := range w.APNs.Accepted() {
			topic := p.Header.Get("apns-topic")
			if p.Header.Get("apns-push-type") != p.Token || strings.HasSuffix(topic, ".voip") != (p.Token == "voip") {
				t.Errorf("%s: headers %v", p.Token, p.Header)
			}
		}
	})
}

// TestCallIsNotDisplaced: a device is off, a call comes, then chat and presence. When it comes back within the
// guard, what Apple kept must be the call.
func TestCallIsNotDisplaced(t *testing.T) {
	run(t, nil, func(w *world) {
		w.APNs.SwitchOff("dev")
		w.must("call", w.message(vAPNs, "dev", `{"key":"a","ids":"1","pt":"audioCall"}`, provider.High))
		sleep(time.Second)
		w.must("chat", w.message(vAPNs, "dev", `{"key":"b","ids":"2","pt":""}`, provider.High))
		w.must("presence", w.message(vAPNs, "dev", `{"key":"c","ids":"3","pt":""}`, provider.Normal))
		sleep(15 * time.Second)
		if p := w.APNs.SwitchOn("dev"); p == nil || !strings.Contains(string(p.Body), "audioCall") {
			t.Errorf("the device received %+v", p)
		}
		sleep(time.Minute)
		w.wantAll(3, dispatch.Delivered)
	})
}

func TestWebPushBodies(t *testing.T) {
	run(t, nil, func(w *world) {
		w.WebPush.RequireVAPID = true
		sub, err := w.WebPush.Subscribe("enc")
		if err != nil {
			t.Fatal(err)
		}
		enc := w.message(vUP, "enc", value(1), provider.High)
		enc.Topic = sub.Topic()
		w.must("encrypted", enc)
		w.must("plain", w.message(vUP, "plain", value(2), provider.Normal))
		sleep(5 * time.Second)
		w.wantAll(2, dispatch.Delivered)
		for _, p := range w.WebPush.Accepted() {
			want, urgency := value(1), "high"
			if p.Token == "plain" {
				want, urgency = value(2), "normal"
			}
			if string(p.Body) != want || p.Header.Get("Urgency") != urgency || p.Header.Get("TTL") == "" {
				t.Errorf("%s: %s with %v", p.Token, p.Body, p.Header)
			}
		}
	})
}

func TestWebPushAnswers(t *testing.T) {
	for _, tc := range []struct {
		status int
		want   dispatch.Status
		reason provider.Reason
	}{
		{404, dispatch.Dead, provider.ReasonUnregistered},
		{410, dispatch.Dead, provider.ReasonUnregistered},
		{413, dispatch.Dropped, provider.ReasonTooLarge},
		{400, dispatch.Dropped, provider.ReasonPayload},
		{403, dispatch.Dropped, provider.ReasonAuth},
		{307, dispatch.Dropped, provider.ReasonRedirect},
	} {
		run(t, func(s *setup) { s.fake.Faults = []fake.Fault{{Status: tc.status}} }, func(w *world) {
			w.must("m", w.message(vUP, "x", value(1), provider.High))
			sleep(time.Second)
			w.want("m", tc.want)
			if w.results["m"].Reason != tc.reason {
				t.Errorf("%d: reason %s, want %s", tc.status, w.results["m"].Reason, tc.reason)
			}
		})
	}
}

// TestNobodySubscribed: 507 is temporary and must not cost the token (ntfy with subscriber rate limiting).
func TestNobodySubscribed(t *testing.T) {
	run(t, func(s *setup) { s.fake.Faults = []fake.Fault{{Status: 507, Times: 1}} }, func(w *world) {
		w.must("m", w.message(vUP, "x", value(1), provider.High))
		sleep(4 * time.Minute)
		if n := w.WebPush.Tries("x"); n != 1 {
			t.Errorf("%d tries in four minutes", n)
		}
		sleep(2 * time.Minute)
		w.want("m", dispatch.Delivered)
	})
}

func TestRefusedAgainAndAgain(t *testing.T) {
	run(t, func(s *setup) { s.fake.Faults = []fake.Fault{{Status: 403}} }, func(w *world) {
		for i := range 10 {
			w.must(fmt.Sprint(i), w.message(vUP, "x", value(i), provider.High))
			sleep(10 * time.Second)
		}
		if len(w.deaths) != 1 {
			t.Errorf("%d deaths after ten refusals", len(w.deaths))
		}
	})
}

func TestFCMBody(t *testing.T) {
	run(t, nil, func(w *world) {
		w.must("m", w.message(vFCM, "x", `{"key":"k","t":1795242961302,"pong":true,"from":"reserved","ids":"1"}`, provider.High))
		sleep(time.Second)
		w.want("m", dispatch.Delivered)
		var body map[string]any
		if err := json.Unmarshal(w.FCM.Accepted()[0].Body, &body); err != nil {
			t.Fatal(err)
		}
		data := body["message"].(map[string]any)["data"]
		if fmt.Sprint(data) != "map[ids:1 key:k pong:true t:1795242961302]" {
			t.Errorf("data %v", data)
		}
	})
}
