//go:build linux

package jamid

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Invite makes the account uri a contact and sends it a contact request. It returns the conversation that was begun.
func (a *Account) Invite(ctx context.Context, uri string) (conversation string, err error) {
	if err := a.d.configure(ctx, "addContact", nil, a.ID, uri); err != nil {
		return "", err
	}
	err = a.d.until(ctx, "conversation with the new contact", func() (bool, error) {
		details := map[string]string{}
		err := a.d.configure(ctx, "getContactDetails", []any{&details}, a.ID, uri)
		conversation = details["conversationId"]
		return conversation != "", err
	})
	if err != nil {
		return "", err
	}
	return conversation, a.d.configure(ctx, "sendTrustRequest", nil, a.ID, uri, []byte("BEGIN:VCARD\r\nVERSION:2.1\r\nEND:VCARD\r\n"))
}

// WaitRequest waits for a contact request from uri, which may have come already. It waits for the last of the signals
// that a request causes: a daemon told to accept between the first and the last has been seen to hang for good.
func (a *Account) WaitRequest(ctx context.Context, uri string) error {
	_, err := a.d.Signals.Wait(ctx, 0, "conversationRequestReceived", func(s Signal) bool {
		return s.Text(0) == a.ID && s.Map(2)["from"] == uri
	})
	return err
}

// Accept accepts the contact request from uri and waits until the conversation was cloned.
func (a *Account) Accept(ctx context.Context, uri, conversation string) error {
	mark := a.d.Signals.Mark()
	ok := false
	if err := a.d.configure(ctx, "acceptTrustRequest", []any{&ok}, a.ID, uri); err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("jamid: acceptTrustRequest on %s refused", a.d.Name)
	}
	_, err := a.d.Signals.Wait(ctx, mark, "conversationReady", func(s Signal) bool {
		return s.Text(0) == a.ID && s.Text(1) == conversation
	})
	return err
}

// WaitJoined waits until uri is seen to have joined the conversation. mark is of before it could.
func (a *Account) WaitJoined(ctx context.Context, mark Mark, conversation, uri string) error {
	const joined = 1 // of conversationMemberEvent
	_, err := a.d.Signals.Wait(ctx, mark, "conversationMemberEvent", func(s Signal) bool {
		return s.Text(0) == a.ID && s.Text(1) == conversation && s.Text(2) == uri && s.Int(3) == joined
	})
	return err
}

// Send puts a text message into the conversation.
func (a *Account) Send(ctx context.Context, conversation, body string) error {
	return a.d.configure(ctx, "sendMessage", nil, a.ID, conversation, body, "", int32(0))
}

// WaitMessage waits for a message with that body after mark.
func (a *Account) WaitMessage(ctx context.Context, mark Mark, conversation, body string) error {
	_, err := a.d.Signals.Wait(ctx, mark, "messageReceived", func(s Signal) bool {
		return s.Text(0) == a.ID && s.Text(1) == conversation && s.Map(2)["body"] == body
	})
	return err
}

// WaitCallNoted waits until the conversation says, after mark, that a call took place: the last thing a call causes.
func (a *Account) WaitCallNoted(ctx context.Context, mark Mark, conversation string) error {
	_, err := a.d.Signals.Wait(ctx, mark, "messageReceived", func(s Signal) bool {
		return s.Text(0) == a.ID && s.Text(1) == conversation && s.Map(2)["type"] == "application/call-history+json"
	})
	return err
}

// SendFile offers the file at path to the conversation under the name shown.
func (a *Account) SendFile(ctx context.Context, conversation, path, name string) error {
	return a.d.configure(ctx, "sendFile", nil, a.ID, conversation, path, name, "")
}

// Codes of dataTransferEvent.
const (
	transferFinished = 6
	transferFailed   = 7 // and every code above
)

// transferPatience is how long ReceiveFile lets a download run before it asks again, as a person would. Seen once in some seventy
// downloads, on a direct connection: the sender had sent all, the receiver neither wrote nor told anything.
const transferPatience = 20 * time.Second

// ReceiveFile waits for a file offered after mark under name, fetches it to path, and waits until it is there.
func (a *Account) ReceiveFile(ctx context.Context, mark Mark, conversation, name, path string) error {
	offer, err := a.d.Signals.Wait(ctx, mark, "messageReceived", func(s Signal) bool {
		m := s.Map(2)
		return s.Text(0) == a.ID && s.Text(1) == conversation && m["type"] == "application/data-transfer+json" && m["displayName"] == name
	})
	if err != nil {
		return err
	}
	for {
		end, err := a.download(ctx, mark, conversation, offer.Map(2), path)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			continue // its own patience ended
		case err == nil && end.Int(4) >= transferFailed:
			return fmt.Errorf("jamid: transfer of %s to %s ended with code %d", name, a.d.Name, end.Int(4))
		}
		return err
	}
}

// download asks for the file of a message and waits for its end.
func (a *Account) download(ctx context.Context, mark Mark, conversation string, message map[string]string, path string) (Signal, error) {
	ok := false
	if err := a.d.configure(ctx, "downloadFile", []any{&ok}, a.ID, conversation, message["id"], message["fileId"], path); err != nil {
		return Signal{}, err
	}
	if !ok {
		return Signal{}, fmt.Errorf("jamid: downloadFile on %s refused", a.d.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, transferPatience)
	defer cancel()
	return a.d.Signals.Wait(ctx, mark, "dataTransferEvent", func(s Signal) bool {
		return s.Text(0) == a.ID && s.Text(3) == message["fileId"] && s.Int(4) >= transferFinished
	})
}
