//go:build unix && !linux

package engineio

import "golang.org/x/sys/unix"

func tuneSocket(uintptr) {}

func send(fd int, b []byte) (int, error) { return unix.Write(fd, b) }

func receive(fd int, b []byte) (int, error) { return unix.Read(fd, b) }
