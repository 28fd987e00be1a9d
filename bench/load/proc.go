//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the processor time that a process has used since it started. Total is exact; User and Sys share it out as the
// kernel counts them, in steps of 10 ms.
type CPU struct {
	Total, User, Sys time.Duration
}

// Sub returns what was used between b and c.
func (c CPU) Sub(b CPU) CPU {
	return CPU{c.Total - b.Total, c.User - b.User, c.Sys - b.Sys}
}

// ReadCPU reads the processor time of all threads of a process, those that ended included.
func ReadCPU(pid int) (CPU, error) {
	// clock_getcpuclockid(3): the CPU-time clock of a process is its pid inverted, shifted, with CPUCLOCK_SCHED.
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return CPU{}, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return CPU{}, err
	}
	user, sys, err := parseStat(stat)
	if err != nil {
		return CPU{}, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
	}
	return CPU{Total: time.Duration(ts.Nano()), User: user, Sys: sys}, nil
}

// tick is the unit of utime and stime: USER_HZ is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// parseStat reads utime and stime, fields 14 and 15 of proc_pid_stat(5). The command (field 2) may hold anything, closing
// parentheses too.
func parseStat(b []byte) (user, sys time.Duration, err error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, 0, errors.New("no command")
	}
	f := bytes.Fields(b[i+1:])
	if len(f) < 13 {
		return 0, 0, errors.New("too few fields")
	}
	u, err1 := strconv.ParseUint(string(f[11]), 10, 63)
	s, err2 := strconv.ParseUint(string(f[12]), 10, 63)
	return time.Duration(u) * tick, time.Duration(s) * tick, errors.Join(err1, err2)
}

// Memory is what a process holds, in bytes: Rss all resident pages, Pss with shared pages divided by their users.
type Memory struct {
	Rss, Pss int64
}

// ReadMemory reads /proc/PID/smaps_rollup, which counts pages exactly, unlike /proc/PID/statm.
func ReadMemory(pid int) (Memory, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return Memory{}, err
	}
	m, err := parseSmaps(b)
	if err != nil {
		return Memory{}, fmt.Errorf("read /proc/%d/smaps_rollup: %w", pid, err)
	}
	return m, nil
}

func parseSmaps(b []byte) (Memory, error) {
	m := Memory{-1, -1}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) != 3 || string(f[2]) != "kB" {
			continue
		}
		n, err := strconv.ParseInt(string(f[1]), 10, 50)
		if err != nil {
			return Memory{}, err
		}
		switch string(f[0]) {
		case "Rss:":
			m.Rss = n << 10
		case "Pss:":
			m.Pss = n << 10
		}
	}
	if m.Rss < 0 || m.Pss < 0 {
		return Memory{}, errors.New("no Rss or Pss")
	}
	return m, nil
}

// ReadPeak reads the most memory that a process has held, in bytes: VmHWM of /proc/PID/status.
func ReadPeak(pid int) (int64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "VmHWM:" {
			n, err := strconv.ParseInt(string(f[1]), 10, 50)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no VmHWM in /proc/%d/status", pid)
}
