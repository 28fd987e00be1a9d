package app

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/gate"
	"github.com/holdpost/holdpost/internal/hooks"
	"github.com/holdpost/holdpost/internal/outbound"
)

const (
	fetchTimeout = 5 * time.Second // of an issuer's keys
	maxKeyFile   = 64 << 10        // bytes
	// minAPIKey is how long an API key is at least, in bytes: one that is made by chance can't be guessed then.
	minAPIKey = 24
)

func authConfigured(c *config.Config) bool {
	return len(c.Auth.Keys)+len(c.Auth.Issuers) > 0 || c.Auth.Anonymous || os.Getenv(jwtSecretVariable) != ""
}

func apiKeysConfigured(c *config.Config) bool {
	return len(c.Auth.APIKeys) > 0 || os.Getenv(apiKeyVariable) != ""
}

// allowed returns the networks that requests of the server may reach though they are not public.
func allowed(c *config.Config) *outbound.Networks {
	networks := new(outbound.Networks)
	all, _ := config.Networks(c.Outbound.Allow) // which were checked
	networks.Replace(all)
	return networks
}

// fetcher returns a client that gets the keys of issuers.
func fetcher(allowed *outbound.Networks) *http.Client { return outbound.Client(allowed, fetchTimeout) }

// authConfig reads the secrets and keys that the configuration names. fetch is for the keys of issuers.
func authConfig(c *config.Config, fetch *http.Client) (auth.Config, error) {
	a := auth.Config{
		Audience: c.Auth.Audience, Leeway: c.Auth.Leeway, MaxLifetime: c.Auth.MaxLifetime, Default: permissions(c.Auth.Permissions),
		OneTime: c.Auth.OneTime, UsedTokens: c.Limits.UsedTokens, HTTP: fetch,
	}
	if c.Auth.Anonymous {
		p := permissions(c.Auth.AnonymousPermissions)
		a.Anonymous = &p
	}
	var errs []error
	wrong := func(where string, err error) { errs = append(errs, &config.Error{Where: where, Err: err}) }
	for i, k := range c.Auth.Keys {
		key, err := readKey(k)
		if err != nil {
			wrong(fmt.Sprintf("auth.keys[%d]", i), err)
		}
		a.Keys = append(a.Keys, auth.Key{ID: k.ID, Algorithm: k.Algorithm, Issuer: k.Issuer, Key: key})
	}
	if secret := os.Getenv(jwtSecretVariable); secret != "" {
		a.Keys = append(a.Keys, auth.Key{Algorithm: "HS256", Key: []byte(secret)})
	}
	for _, is := range c.Auth.Issuers {
		a.Issuers = append(a.Issuers, auth.Issuer{Name: is.Name, URL: is.URL, Algorithms: is.Algorithms})
	}
	for i, k := range c.Auth.APIKeys {
		key, err := readAPIKey(k)
		if err != nil {
			wrong(fmt.Sprintf("auth.api_keys[%d]", i), err)
		}
		a.APIKeys = append(a.APIKeys, key)
	}
	if secret := os.Getenv(apiKeyVariable); secret != "" {
		if err := checkAPIKey([]byte(secret)); err != nil {
			wrong(apiKeyVariable, err)
		}
		a.APIKeys = append(a.APIKeys, auth.APIKey{Name: apiKeyVariable, Hash: sha256.Sum256([]byte(secret)), Permissions: auth.All()})
	}
	if errs == nil {
		if _, err := auth.New(a); err != nil {
			wrong("auth", err)
		}
	}
	if errs != nil {
		return a, explainConfig(errors.Join(errs...))
	}
	return a, nil
}

func permissions(p config.Permissions) auth.Permissions {
	return auth.Permissions{Join: p.Join, Send: p.Send, Subscribe: p.Subscribe, Publish: p.Publish, Work: p.Work}
}

func readKey(k config.Key) (any, error) {
	if k.PublicKeyFile == "" {
		return k.Secret.Read()
	}
	if k.Secret.Given() {
		return nil, errors.New("both a secret and public_key_file are given")
	}
	b, err := readFile(k.PublicKeyFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", k.PublicKeyFile)
	}
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, fmt.Errorf("%s holds a %s, not a public key", k.PublicKeyFile, block.Type)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxKeyFile)
	}
	return b, err
}

func readAPIKey(k config.APIKey) (auth.APIKey, error) {
	key := auth.APIKey{Name: k.Name, Permissions: auth.All()}
	if k.Permissions != nil {
		key.Permissions = permissions(*k.Permissions)
	}
	if k.Hash == "" {
		secret, err := k.Secret.Read()
		if err == nil {
			err = checkAPIKey(secret)
		}
		key.Hash = sha256.Sum256(secret)
		return key, err
	}
	if k.Secret.Given() {
		return key, errors.New("both a hash and a secret are given")
	}
	text, ok := strings.CutPrefix(k.Hash, "sha256:")
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) != sha256.Size {
		return key, errors.New("the hash is not sha256: and 64 hex digits")
	}
	key.Hash = [sha256.Size]byte(b)
	return key, nil
}

func checkAPIKey(secret []byte) error {
	if len(secret) < minAPIKey {
		return fmt.Errorf("an API key has %d bytes or more: holdpost token new --api makes one", minAPIKey)
	}
	return nil
}

func gateLimits(c *config.Config) gate.Limits {
	limits := gate.Limits{
		PerAddress: c.Limits.ConnectionsPerAddress, PerIdentity: c.Limits.ConnectionsPerIdentity,
		EventsPerSecond: c.Limits.EventsPerSecond, EventsBurst: c.Limits.EventsBurst,
	}
	if c.Dev { // who tries things out alone may be as fast as they like
		limits.EventsPerSecond = -1
	}
	return limits
}

// handshakesPerSecond returns how many new connections are let in. Each takes a processor about a millisecond, with its recovery and
// its subscriptions: so half of it is left to those who are there.
func handshakesPerSecond(c *config.Config) float64 {
	if c.Limits.HandshakesPerSecond == 0 {
		return 600 * float64(runtime.GOMAXPROCS(0))
	}
	return c.Limits.HandshakesPerSecond
}

// readHooks reads the secrets of hooks.
func readHooks(c *config.Config) ([]hooks.Hook, error) {
	var all []hooks.Hook
	for i, h := range c.Hooks {
		secret, err := h.Secret.Read()
		if err == nil && len(secret) < minAPIKey {
			err = fmt.Errorf("a secret to sign with has %d bytes or more", minAPIKey)
		}
		if err != nil {
			return nil, explainConfig(&config.Error{Where: fmt.Sprintf("hooks[%d]", i), Err: err})
		}
		all = append(all, hooks.Hook{URL: h.URL, Events: h.Events, Secret: secret})
	}
	return all, nil
}
