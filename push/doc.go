// Package push is the push gateway: it takes hints for devices from DHT proxies and carries them to Firebase
// Cloud Messaging, Apple's push service and UnifiedPush, and tells its callers which devices are gone.
//
// It is a library and a server. The library is the Dispatcher (package dispatch, which says how messages queue,
// merge and retry) with the providers (packages fcm, apns, unifiedpush); a process that has its own HTTP server
// submits messages to Server.Dispatcher. The server adds two HTTP interfaces:
//
//	POST /api/push        the gorush dialect that upstream's DHT proxies speak (docs/protocols/dhtproxy.md §8.3):
//	                      {"notifications":[{"platform":2,"tokens":["…"],"data":{…},"android":{"priority":"high"}}]}
//	                      answered at once with {"success":"ok","counts":1,"logs":[]}
//	POST /v1/pushes       our own batches, with a result for each message
//	GET  /v1/dead-tokens  tokens that providers reported dead, by cursor
//	GET  /v1/vapid        the public key under which Web Push messages are signed
//	GET  /v1/openapi.yaml the description of the /v1 routes
//
// Dead tokens are also POSTed to a webhook, signed as in the Standard Webhooks specification. Callers authenticate
// with a bearer token or a client certificate; the gorush dialect has neither, so it is open to the addresses in
// compat.allow and to callers that do authenticate.
//
// With provider "fake" the providers talk to simulators in this process (package fake) instead of the vendors.
// With distributor.enabled a UnifiedPush server runs beside the gateway (package distributor).
package push

import (
	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/provider"
)

// The library's words, so that callers need not import the packages below.
type (
	Dispatcher = dispatch.Dispatcher
	Result     = dispatch.Result
	Message    = provider.Message
	Target     = provider.Target
	Data       = provider.Data
)
