package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// process is a pid whose costs are read from /proc.
type process int

// tick is the unit of processor time in /proc/<pid>/stat on Linux.
const tick = 10 * time.Millisecond

// cpu returns the user and system time used so far: fields 14 and 15 of stat, after the name in parentheses.
func (p process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", int(p)))
	if err != nil {
		return 0, err
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	user, err1 := strconv.Atoi(string(f[11]))
	sys, err2 := strconv.Atoi(string(f[12]))
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("stat of %d not understood", int(p))
	}
	return time.Duration(user+sys) * tick, nil
}

// rss returns the resident memory in bytes.
func (p process) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", int(p)))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(string(bytes.Fields(b)[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// idle waits ten seconds and returns how many milliseconds of processor time a second took.
func (p process) idle() (float64, error) {
	const wait = 10 * time.Second
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	<-time.After(wait)
	after, err := p.cpu()
	return float64(after-before) / float64(time.Millisecond) / wait.Seconds(), err
}
