//go:build !linux

package faults

import "errors"

func failCalls(string) error { return errors.New("system calls can't be made to fail here") }
