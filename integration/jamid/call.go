//go:build linux

package jamid

import (
	"context"
	"fmt"
)

// audio is the media list of a call with one sound stream.
func audio() []map[string]string {
	return []map[string]string{{
		"MEDIA_TYPE": "MEDIA_TYPE_AUDIO", "ENABLED": "true", "MUTED": "false", "SOURCE": "", "LABEL": "audio_0",
	}}
}

// Call is one side of a call.
type Call struct {
	a    *Account
	ID   string
	mark Mark // before its first signal
}

// Call begins an audio call to uri.
func (a *Account) Call(ctx context.Context, uri string) (*Call, error) {
	c := &Call{a: a, mark: a.d.Signals.Mark()}
	if err := a.d.call(ctx, "CallManager", "placeCallWithMedia", []any{&c.ID}, a.ID, uri, audio()); err != nil {
		return nil, fmt.Errorf("jamid: placeCallWithMedia on %s: %w", a.d.Name, err)
	}
	if c.ID == "" {
		return nil, fmt.Errorf("jamid: placeCallWithMedia on %s refused", a.d.Name)
	}
	return c, nil
}

// Answer waits for a call from uri after mark and takes it.
func (a *Account) Answer(ctx context.Context, mark Mark, uri string) (*Call, error) {
	ring, err := a.d.Signals.Wait(ctx, mark, "incomingCallWithMedia", func(s Signal) bool { return s.Text(0) == a.ID })
	if err != nil {
		return nil, err
	}
	c := &Call{a: a, ID: ring.Text(1), mark: mark}
	ok := false
	if err := a.d.call(ctx, "CallManager", "acceptWithMedia", []any{&ok}, a.ID, c.ID, audio()); err != nil {
		return nil, fmt.Errorf("jamid: acceptWithMedia on %s: %w", a.d.Name, err)
	}
	if !ok {
		return nil, fmt.Errorf("jamid: acceptWithMedia on %s refused", a.d.Name)
	}
	return c, nil
}

// WaitMedia waits until the call is current and its media were negotiated and started.
func (c *Call) WaitMedia(ctx context.Context) error {
	_, err := c.a.d.Signals.Wait(ctx, c.mark, "callStateChanged", func(s Signal) bool {
		return s.Text(1) == c.ID && s.Text(2) == "CURRENT"
	})
	if err != nil {
		return err
	}
	_, err = c.a.d.Signals.Wait(ctx, c.mark, "mediaNegotiationStatus", func(s Signal) bool {
		return s.Text(0) == c.ID && s.Text(1) == "NEGOTIATION_SUCCESS"
	})
	return err
}

// HangUp ends the call and waits until it is over.
func (c *Call) HangUp(ctx context.Context) error {
	ok := false
	if err := c.a.d.call(ctx, "CallManager", "hangUp", []any{&ok}, c.a.ID, c.ID); err != nil {
		return fmt.Errorf("jamid: hangUp on %s: %w", c.a.d.Name, err)
	}
	return c.WaitOver(ctx)
}

// WaitOver waits until the call is over, whoever ended it.
func (c *Call) WaitOver(ctx context.Context) error {
	_, err := c.a.d.Signals.Wait(ctx, c.mark, "callStateChanged", func(s Signal) bool {
		return s.Text(1) == c.ID && s.Text(2) == "OVER"
	})
	return err
}
