// Package bootstrapfault breaks the ground under the built jirani-bootstrap: the disk fills, the process is killed at any
// moment, its state file is damaged. It must keep answering, keep its values where the file allows, and say what happened.
//
// There is nothing here but tests. The one with a full disk mounts a small tmpfs and needs root.
package bootstrapfault
