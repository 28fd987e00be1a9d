package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxRevoked bounds the identities that are remembered.
const maxRevoked = 100_000

// revocations remembers since when the tokens of an identity hold no more.
type revocations struct {
	file string // "" keeps them in memory

	mu    sync.RWMutex // guards the fields below; held while the file is written, which happens rarely
	life  time.Duration
	since map[string]time.Time
}

func openRevocations(file string, life time.Duration) (*revocations, error) {
	v := &revocations{file: file, life: life, since: make(map[string]time.Time)}
	if file == "" {
		return v, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &v.since)
	}
	if err != nil { // without it the revoked would be let in
		return nil, fmt.Errorf("read revocations %s: %w", file, err)
	}
	return v, nil
}

func (v *revocations) keep(life time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.life = life
}

func (v *revocations) revoked(c *Client) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	since, ok := v.since[c.Identity]
	return ok && c.Identity != "" && !c.Issued.After(since)
}

func (v *revocations) add(identity string, now time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for other, since := range v.since {
		if now.Sub(since) > v.life { // no token of that time holds any more
			delete(v.since, other)
		}
	}
	before, had := v.since[identity]
	if !had && len(v.since) >= maxRevoked {
		return &Error{Code: "too_many", Detail: fmt.Sprintf("%d identities are revoked already", maxRevoked)}
	}
	v.since[identity] = now
	if err := v.write(); err != nil {
		if delete(v.since, identity); had {
			v.since[identity] = before
		}
		return fmt.Errorf("store revocation: %w", err)
	}
	return nil
}

// write replaces the file as a whole. v.mu is held.
func (v *revocations) write() error {
	if v.file == "" {
		return nil
	}
	b, err := json.Marshal(v.since)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(v.file), filepath.Base(v.file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is there once it was renamed
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), v.file)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(v.file))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
