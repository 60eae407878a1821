package pgtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Freeze stops every process of the server where it stands (SIGSTOP), as a hung
// disk or host does: connections stay open and nothing answers. It returns what
// lets them go on, which also the end of the test does.
func (s *Server) Freeze(tb testing.TB) (thaw func()) {
	tb.Helper()
	pids := []int{s.cmd.Process.Pid} // first, so that no more come
	stop := func(pid int) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && err != syscall.ESRCH {
			tb.Fatal(err)
		}
	}
	stop(pids[0])
	for _, pid := range children(tb, pids[0]) {
		stop(pid)
		pids = append(pids, pid)
	}
	thaw = func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT) // one that has gone needs none
		}
	}
	tb.Cleanup(thaw)
	return thaw
}

// children returns the processes whose parent is ppid (proc(5), field 4 of
// stat).
func children(tb testing.TB, ppid int) []int {
	tb.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		tb.Fatal(err)
	}
	var pids []int
	for _, path := range dirs {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // gone meanwhile
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 || string(fields[1]) != strconv.Itoa(ppid) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
