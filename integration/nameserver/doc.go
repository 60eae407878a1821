// Package nameserver tries the name server with what it is for: a real
// jami-daemon over D-Bus, and a real browser.
package nameserver
