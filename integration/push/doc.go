// Package push runs the built jirani-push, with simulated vendors and the UnifiedPush server on, against other people's
// programs and under a failing machine:
//
//   - an upstream DHT proxy pushes through the gateway, and straight to the UnifiedPush server where it can;
//   - curl and Chromium's EventSource and WebSocket receive from the UnifiedPush server and miss nothing when it is killed;
//   - its disk fills, its file descriptors run out.
//
// There is nothing here but tests. The one with a full disk mounts a small tmpfs and needs root.
package push
