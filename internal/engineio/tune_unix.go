//go:build unix && !linux

package engineio

func tuneSocket(uintptr) {}
