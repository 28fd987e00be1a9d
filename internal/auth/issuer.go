package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
)

const (
	keysFresh   = 15 * time.Minute // how long a fetched set is used without asking again
	keysStale   = 10 * time.Minute // and beyond that while the issuer can't be reached
	keysAgain   = 30 * time.Second // between two fetches for keys that are missing, or after one that failed
	keysTimeout = 5 * time.Second
	maxKeys     = 100
	maxKeySet   = 1 << 20 // bytes
)

// Issuer is where tokens come from whose keys are fetched (RFC 7517, a JWK Set).
type Issuer struct {
	Name       string   // which tokens must name in iss
	URL        string   // of its keys; https, unless it is this machine
	Algorithms []string // that it signs with; symmetric ones are not possible
}

// issuer has the keys of one issuer.
type issuer struct {
	Issuer
	http *http.Client

	turn chan struct{} // whoever has its token reads and writes the fields below
	keys []fetchedKey
	at   time.Time // of the last good fetch
	last time.Time // of the last try
}

type fetchedKey struct {
	id, algorithm string // algorithm may be ""
	key           any
}

func newIssuer(source Issuer, client *http.Client) (*issuer, error) {
	u, err := url.Parse(source.URL)
	switch {
	case source.Name == "":
		return nil, errors.New("it has no name")
	case err != nil || u.Host == "" || u.User != nil:
		return nil, fmt.Errorf("%q is not a URL", source.URL)
	case u.Scheme != "https" && !(u.Scheme == "http" && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())):
		return nil, fmt.Errorf("%q is not https", source.URL)
	case len(source.Algorithms) == 0:
		return nil, errors.New("it has no algorithms")
	case client == nil:
		return nil, errors.New("nothing can fetch its keys")
	}
	for _, a := range source.Algorithms {
		if !slices.Contains(Algorithms, a) || strings.HasPrefix(a, "HS") {
			return nil, fmt.Errorf("algorithm %q is not possible", a)
		}
	}
	return &issuer{Issuer: source, http: client, turn: make(chan struct{}, 1)}, nil
}

func (s *issuer) same(o Issuer) bool {
	return s.Name == o.Name && s.URL == o.URL && slices.Equal(s.Algorithms, o.Algorithms)
}

// key returns the key of this id for the algorithm, nil if there is none. It fetches the keys when they are missing or old.
func (s *issuer) key(ctx context.Context, id, algorithm string) (any, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, &Error{Code: "unavailable", Detail: "the issuer's keys are being fetched"}
	}
	found := s.find(id, algorithm)
	now := time.Now()
	old := now.Sub(s.at) > keysFresh
	if (found == nil || old) && now.Sub(s.last) > keysAgain {
		s.last = now
		if keys, err := s.fetch(ctx); err == nil {
			s.keys, s.at, old = keys, now, false
			found = s.find(id, algorithm)
		}
	}
	if old && now.Sub(s.at) > keysFresh+keysStale {
		return nil, &Error{Code: "unavailable", Detail: "the issuer's keys can't be fetched"}
	}
	return found, nil
}

func (s *issuer) find(id, algorithm string) any {
	for _, k := range s.keys {
		if k.id == id && (k.algorithm == "" || k.algorithm == algorithm) && fits(algorithm, k.key) {
			return k.key
		}
	}
	return nil
}

func (s *issuer) fetch(ctx context.Context) ([]fetchedKey, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTimeout) // others wait for it too
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := s.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", s.URL, response.Status)
	}
	b, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeySet {
		return nil, fmt.Errorf("%s answers more than %d bytes", s.URL, maxKeySet)
	}
	return parseKeys(b)
}

// parseKeys takes the keys that can verify a signature. Two keys of one id and algorithm make the set void: nobody can say
// which of them is meant.
func parseKeys(b []byte) ([]fetchedKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("a set of more than %d keys", maxKeys)
	}
	var keys []fetchedKey
	for _, raw := range set.Keys {
		var m jwkset.JWKMarshal
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, err
		}
		if m.USE != "" && m.USE != jwkset.UseSig || m.KTY == jwkset.KtyOct {
			continue
		}
		jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipMetadata: true})
		if err != nil {
			continue // of a kind that is unknown here, as a set may hold
		}
		k := fetchedKey{m.KID, string(m.ALG), jwk.Key()}
		if err := (&Key{Algorithm: algorithmFor(k.key, k.algorithm), Key: k.key}).check(); err != nil {
			continue
		}
		if slices.ContainsFunc(keys, func(o fetchedKey) bool { return o.id == k.id && (o.algorithm == k.algorithm) }) {
			return nil, fmt.Errorf("two keys have the id %q", k.id)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// algorithmFor returns what a key says that it is for, or else some algorithm that it fits.
func algorithmFor(key any, said string) string {
	if said != "" {
		return said
	}
	i := slices.IndexFunc(Algorithms, func(a string) bool { return fits(a, key) })
	if i < 0 {
		return ""
	}
	return Algorithms[i]
}
