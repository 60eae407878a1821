//go:build linux && amd64

// Package wallclock sets the clock of one process, and of nobody else, back and forth: what an operator or NTP does to a machine whose
// clock was wrong, without doing it to the machine that runs the tests.
//
// A Go program reads the time from the kernel's vDSO, so that no library can be put in between; time namespaces leave CLOCK_REALTIME
// alone. [Start] therefore replaces the function clock_gettime in the child's own copy of the vDSO, before its first instruction, by one
// that makes the system call and adds a number of seconds to CLOCK_REALTIME. [Clock.Set] changes that number in the running child. As with
// a real clock that is set, CLOCK_MONOTONIC, timers and the times of files stay as they are.
//
// It needs to trace its own child, which is no privilege on most systems.
package wallclock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// shifted is clock_gettime(clock EDI, result RSI) for amd64. The last eight bytes are the seconds to add.
var shifted = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228 (SYS_clock_gettime)
	0x0f, 0x05, // syscall
	0x85, 0xff, // test edi, edi (CLOCK_REALTIME is 0)
	0x75, 0x0a, // jne to ret
	0x48, 0x8b, 0x0d, 0x06, 0x00, 0x00, 0x00, // mov rcx, [rip+6]: the seconds
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0xc3,       // ret
	0xcc, 0xcc, // so that the number is aligned and read and written as one
	0, 0, 0, 0, 0, 0, 0, 0,
}

// Clock is the wall clock of a child.
type Clock struct {
	memory  *os.File // the child's
	seconds int64    // address of the number
}

// Start starts cmd with a clock that is right. It must be called on a locked thread, which is to live as long as the child, and the child
// ends with it. The caller waits for cmd as usual, and closes the clock.
func Start(cmd *exec.Cmd) (*Clock, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c, err := seize(cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wallclock: %w", err), cmd.Process.Kill())
	}
	return c, nil
}

// seize waits for the child to stop at its first instruction, changes its vDSO and lets it go.
func seize(pid int) (*Clock, error) {
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return nil, fmt.Errorf("wait for exec: %w", err)
	}
	if !status.Stopped() {
		return nil, fmt.Errorf("child did not stop at exec: %#x", status)
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	at, err := clockGettime(pid, memory)
	if err == nil {
		_, err = memory.WriteAt(shifted, at)
	}
	if err == nil {
		err = unix.PtraceDetach(pid)
	}
	if err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	return &Clock{memory: memory, seconds: at + int64(len(shifted)) - 8}, nil
}

// clockGettime returns the address of the function in the child.
func clockGettime(pid int, memory *os.File) (int64, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(maps)) {
		var begin, end int64
		if !strings.Contains(line, "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &begin, &end); err != nil {
			return 0, fmt.Errorf("maps line %q: %w", line, err)
		}
		image := make([]byte, end-begin)
		if _, err := memory.ReadAt(image, begin); err != nil {
			return 0, err
		}
		offset, err := find(image, "__vdso_clock_gettime")
		return begin + offset, err
	}
	return 0, errors.New("no vDSO")
}

// find returns the offset of a function in the image, with room for ours.
func find(image []byte, name string) (int64, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, err
	}
	for _, s := range symbols {
		if s.Name != name {
			continue
		}
		if s.Size < uint64(len(shifted)) {
			return 0, fmt.Errorf("%s has %d bytes, too few", name, s.Size)
		}
		return int64(s.Value), nil
	}
	return 0, fmt.Errorf("vDSO has no %s", name)
}

// Set lets the child's clock be off by d, in whole seconds, from now on.
func (c *Clock) Set(d time.Duration) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(int64(d/time.Second)))
	if _, err := c.memory.WriteAt(b, c.seconds); err != nil {
		return fmt.Errorf("wallclock: set: %w", err)
	}
	return nil
}

// Close lets go of the child's memory; its clock stays as it was set.
func (c *Clock) Close() error { return c.memory.Close() }
