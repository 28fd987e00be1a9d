package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/holdpost/holdpost"
)

// HookEvents lists what a hook can be told.
var HookEvents = []string{"connect", "event", "disconnect", "mail"}

// maxTopics bounds the patterns of topics: the broker takes 256, and some are the server's own.
const maxTopics = 250

// check returns what is wrong with values, all at once. Files and secrets are looked at by whoever uses them.
func (l *loader) check(c *Config) error {
	var errs []error
	wrong := func(key, hint, format string, a ...any) {
		where := l.from[key]
		if where == "" {
			where = key
		}
		errs = append(errs, &Error{where, fmt.Errorf(format, a...), hint})
	}
	var level slog.Level
	if level.UnmarshalText([]byte(c.Log.Level)) != nil {
		wrong("log.level", "use one of: debug, info, warn, error", "there is no level %q", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		wrong("log.format", "use text or json", "there is no format %q", c.Log.Format)
	}
	for key, value := range map[string]string{"listen": c.Listen, "internal.listen": c.Internal.Listen} {
		if err := checkListen(value); err != nil {
			wrong(key, "write HOST:PORT, for example 127.0.0.1:7300; port 0 takes any free one", "%q: %w", value, err)
		}
	}
	if c.DataDir == "" {
		wrong("data_dir", "", "it is empty")
	}
	l.checkStore(c, wrong)
	if err := (&holdpost.Config{Origins: c.Origins}).Validate(); err != nil {
		wrong("origins", "write https://example.com, https://*.example.com or http://localhost:*", "%w", err)
	}
	if slices.Contains(c.Origins, "*") && !c.Dev && !c.Auth.Anonymous {
		wrong("origins", "name the origins of your pages", "\"*\" lets every web page use the tokens of its visitors")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		wrong("tls.cert_file", "give both tls.cert_file and tls.key_file", "a certificate needs its key")
	}
	if c.WebTransport && c.TLS.CertFile == "" && len(c.TLS.ACME.Domains) == 0 {
		wrong("webtransport", "give tls.cert_file and tls.key_file, or tls.acme.domains", "it has no form without TLS")
	}
	if c.TLS.HTTPListen != "" {
		if err := checkListen(c.TLS.HTTPListen); err != nil {
			wrong("tls.http_listen", "write HOST:PORT, for example 0.0.0.0:80", "%q: %w", c.TLS.HTTPListen, err)
		}
		if c.TLS.CertFile == "" && len(c.TLS.ACME.Domains) == 0 {
			wrong("tls.http_listen", "give tls.cert_file and tls.key_file, or tls.acme.domains", "without TLS there is nothing to redirect to")
		}
	}
	if len(c.TLS.ACME.Domains) > 0 && c.TLS.CertFile != "" {
		wrong("tls.acme.domains", "give one of them", "there is a certificate in tls.cert_file already")
	}
	for _, d := range c.TLS.ACME.Domains {
		if strings.ContainsAny(d, "*/: ") || !strings.Contains(d, ".") {
			wrong("tls.acme.domains", "write it as in events.example.com; there is none for *", "%q is not the name of a server", d)
		}
	}
	if u, err := url.Parse(c.TLS.ACME.Directory); c.TLS.ACME.Directory != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		wrong("tls.acme.directory", "write it as in https://ca.example.com/acme/acme/directory", "%q is not the URL of an authority", c.TLS.ACME.Directory)
	}
	if c.TLS.ACME.RootFile != "" && c.TLS.ACME.Directory == "" {
		wrong("tls.acme.root_file", "give tls.acme.directory, or leave this out", "Let's Encrypt needs none")
	}
	for key, networks := range map[string][]string{"proxies": c.Proxies, "outbound.allow": c.Outbound.Allow} {
		if _, err := Networks(networks); err != nil {
			wrong(key, "write a network as in 10.0.0.0/8", "%w", err)
		}
	}
	for key, value := range map[string]int64{
		"limits.connections": int64(c.Limits.Connections), "limits.payload": int64(c.Limits.Payload), "limits.queue_bytes": int64(c.Limits.QueueBytes),
		"limits.rooms": int64(c.Limits.Rooms), "limits.subscriptions": int64(c.Limits.Subscriptions), "limits.handshakes_burst": int64(c.Limits.HandshakesBurst), "limits.handshakes_wait": int64(c.Limits.HandshakesWait),
		"limits.events_burst": int64(c.Limits.EventsBurst), "limits.used_tokens": int64(c.Limits.UsedTokens), "auth.leeway": int64(c.Auth.Leeway), "auth.max_lifetime": int64(c.Auth.MaxLifetime), "drain.patience": int64(c.Drain.Patience), "drain.rate": int64(c.Drain.Rate),
	} {
		if value < 0 {
			wrong(key, "", "it is below zero")
		}
	}
	if len(c.Topics) > maxTopics {
		wrong("topics", "join some by * and **", "there are more than %d patterns", maxTopics)
	}
	for i, t := range c.Topics {
		key := fmt.Sprintf("topics[%d]", i)
		if strings.HasPrefix(t.Pattern, "holdpost/") {
			wrong(key+".pattern", "", "topics below holdpost/ are the server's own")
		}
		if err := t.Kept().Validate(); err != nil {
			wrong(key, "", "%w", err)
		}
	}
	for i, h := range c.Hooks {
		key := fmt.Sprintf("hooks[%d]", i)
		if u, err := url.Parse(h.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
			wrong(key+".url", "write http:// or https://, without a password in it", "%q is not the URL of a hook", h.URL)
		}
		if len(h.Events) == 0 {
			wrong(key+".events", "", "it has none")
		}
		for _, e := range h.Events {
			if !slices.Contains(HookEvents, e) {
				wrong(key+".events", "there are connect, event, disconnect and mail", "%q is unknown", e)
			}
		}
		if !h.Secret.Given() {
			wrong(key, "give secret_file or secret_env", "it has no secret to sign with")
		}
	}
	return errors.Join(errs...)
}

// checkStore looks at where the log is.
func (l *loader) checkStore(c *Config, wrong func(key, hint, format string, a ...any)) {
	n := &c.NATS
	switch {
	case !slices.Contains([]string{"", "disk", "memory", "quorum"}, c.Store.Level):
		wrong("store.level", "use disk, memory or quorum", "there is no level %q", c.Store.Level)
	case n.Outside() && (c.Store.Level == "disk" || c.Store.Level == "memory"):
		wrong("store.level", "leave it out, or write quorum", "%s is a level of this machine's disk, and nats.urls has the log elsewhere", c.Store.Level)
	case !n.Outside() && c.Store.Level == "quorum":
		wrong("store.level", "say where its servers are: nats.urls", "a quorum takes servers that replicate")
	}
	for _, text := range n.URLs {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" || u.User != nil {
			wrong("nats.urls", "write nats://HOST:4222 or tls://HOST:4222, without a password in it", "%q is not the URL of a NATS server", text)
		}
	}
	if (n.CertFile == "") != (n.KeyFile == "") {
		wrong("nats.cert_file", "give both nats.cert_file and nats.key_file", "a certificate needs its key")
	}
	if n.CredentialsFile != "" && (n.User != "" || n.Secret.Given()) {
		wrong("nats.credentials_file", "give one of them", "there is nats.user or its secret too")
	}
	if n.User != "" && !n.Secret.Given() {
		wrong("nats.user", "give nats.secret_file or nats.secret_env", "it has no password")
	}
	if n.Replicas < 0 || n.Replicas > 5 {
		wrong("nats.replicas", "use 1, 3 or 5", "JetStream keeps up to 5 copies")
	}
}

func checkListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		if e, ok := errors.AsType[*net.AddrError](err); ok {
			return errors.New(e.Err)
		}
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return nil
}

// Networks reads networks, or single addresses.
func Networks(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if a, aerr := netip.ParseAddr(text); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is not a network", text)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}
