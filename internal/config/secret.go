package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// maxSecret bounds a file with a secret, in bytes.
const maxSecret = 64 << 10

// Secret says where a secret is.
type Secret struct {
	File string `koanf:"secret_file" doc:"File with the secret; white space around it does not count. Nobody but its owner and group may read it."`
	Env  string `koanf:"secret_env" doc:"Name of the environment variable with the secret."`
}

// Given tells whether there is one.
func (s Secret) Given() bool { return s.File != "" || s.Env != "" }

// Read returns the secret, which is not empty.
func (s Secret) Read() ([]byte, error) {
	switch {
	case s.File != "" && s.Env != "":
		return nil, fmt.Errorf("both secret_file and secret_env are given")
	case s.Env != "":
		value := os.Getenv(s.Env)
		if value == "" {
			return nil, fmt.Errorf("environment variable %s is not set", s.Env)
		}
		return []byte(value), nil
	case s.File == "":
		return nil, fmt.Errorf("neither secret_file nor secret_env is given")
	}
	f, err := os.Open(s.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%s can be read by everybody: chmod o-rwx", s.File)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSecret {
		return nil, fmt.Errorf("%s has more than %d bytes", s.File, maxSecret)
	}
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return nil, fmt.Errorf("%s is empty", s.File)
	}
	return b, nil
}
