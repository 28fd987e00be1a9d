package config

import (
	"time"

	"github.com/holdpost/holdpost/queue"
)

// Config is the configuration of a server. Make one with [Load] or [Default]: zero values are not defaults here.
type Config struct {
	Dev       bool     `koanf:"dev" doc:"Let everyone in under the identity that they name in auth.client, and serve the playground."`
	DevPublic bool     `koanf:"dev_public" doc:"Let a server in dev mode be reached from other machines, by whoever may. The log warns of it every minute."`
	Listen    string   `koanf:"listen" doc:"Address of the public listener, HOST:PORT: Socket.IO. Port 0 takes any free one."`
	DataDir   string   `koanf:"data_dir" doc:"Directory of the store, made when it is missing."`
	Origins   []string `koanf:"origins" doc:"Web origins whose pages may connect, as in https://example.com, https://*.example.com (one label), http://localhost:* (any port). Clients that are no browsers name none and are let through."`
	Proxies   []string `koanf:"proxies" doc:"Networks of the proxies in front, as in 10.0.0.0/8: their X-Forwarded-For tells the client's address."`

	TLS struct {
		CertFile   string `koanf:"cert_file" doc:"Certificate chain in PEM for the public listener. Read again when it changes, within a minute, and on SIGHUP."`
		KeyFile    string `koanf:"key_file" doc:"Its private key in PEM."`
		HTTPListen string `koanf:"http_listen" doc:"Address of a listener for plain HTTP, as in 0.0.0.0:80: it redirects to listen, and answers challenges of the ACME authority (HTTP-01). Empty: there is none."`
		ACME       struct {
			Domains   []string `koanf:"domains" doc:"Names of the server for which it gets certificates itself, instead of cert_file, and renews them. The public listener must be reachable at port 443 of each, or http_listen at port 80."`
			Email     string   `koanf:"email" doc:"Where the authority writes to when something is wrong with them. May be empty."`
			Directory string   `koanf:"directory" doc:"URL of the authority's directory, https. Empty: Let's Encrypt, to whose terms you agree so."`
			RootFile  string   `koanf:"root_file" doc:"Root certificates in PEM that vouch for the directory's own address, when the authority is one of yours. Empty: those of the system."`
		} `koanf:"acme"`
	} `koanf:"tls"`

	WebTransport bool `koanf:"webtransport" doc:"Serve WebTransport (HTTP/3) too, on the UDP port of the same number as listen's. It needs tls."`

	Internal struct {
		Listen string `koanf:"listen" doc:"Address of the internal listener: the API, health, metrics, pprof. Beyond this machine it needs API keys."`
	} `koanf:"internal"`

	Log struct {
		Level  string `koanf:"level" reload:"yes" doc:"What to log from: debug, info, warn or error."`
		Format string `koanf:"format" doc:"text or json."`
	} `koanf:"log"`

	Auth Auth `koanf:"auth"`

	Limits struct {
		Memory                 int64         `koanf:"memory" doc:"Bytes of memory that the process may use: from 75 % on nobody new is let in and nothing is compressed, from 90 % on those are disconnected for whom most is waiting. 0 is the limit of the container, or GOMEMLIMIT. Negative: no limit."`
		Connections            int           `koanf:"connections" doc:"Connections at a time. 0 is what the process may open in files, less 512."`
		ConnectionsPerAddress  int           `koanf:"connections_per_address" reload:"yes" doc:"Sockets of one client address at a time; of IPv6 of one /64. Negative: no limit."`
		ConnectionsPerIdentity int           `koanf:"connections_per_identity" reload:"yes" doc:"Sockets of one identity at a time. Negative: no limit."`
		HandshakesPerSecond    float64       `koanf:"handshakes_per_second" reload:"yes" doc:"New connections a second that are let in when all come at once; the others wait for their turn, or are told to come back. 0 is 600 for each processor, which keeps it half busy. Negative: no limit."`
		HandshakesBurst        int           `koanf:"handshakes_burst" reload:"yes" doc:"New connections that are let in at once after a quiet time."`
		HandshakesWait         time.Duration `koanf:"handshakes_wait" reload:"yes" doc:"How long a new connection may wait for its turn; one that would wait longer is told to come back at once. 0: none waits."`
		TLSHandshakes          int           `koanf:"tls_handshakes" reload:"yes" doc:"TLS handshakes of the public listener at a time, with those that have sent no request yet: further connections are closed at once. Each may take 5 s. Negative: no limit."`
		EventsPerSecond        float64       `koanf:"events_per_second" reload:"yes" doc:"Events a second that one socket may send. Those above are refused with too_many and the client is warned with an event; one that goes on is disconnected. Negative: no limit."`
		EventsBurst            int           `koanf:"events_burst" reload:"yes" doc:"Events that one socket may send at once."`
		UsedTokens             int           `koanf:"used_tokens" reload:"yes" doc:"Tokens that are remembered with auth.one_time. While there are so many that have not expired, others are refused with too_many."`
		Payload                int           `koanf:"payload" doc:"Bytes that a client may send at once."`
		QueueBytes             int           `koanf:"queue_bytes" doc:"Bytes that wait for one client before it is disconnected as too slow."`
		Rooms                  int           `koanf:"rooms" doc:"Rooms of one socket."`
		Subscriptions          int           `koanf:"subscriptions" doc:"Subscriptions of one socket."`
	} `koanf:"limits"`

	Store struct {
		Level      string        `koanf:"level" doc:"What an event survives whose publish was answered: disk, a power cut; memory, a killed process; quorum, with nats alone, the loss of the smaller part of its servers. Empty: disk, or quorum with nats."`
		MaxAge     time.Duration `koanf:"max_age" doc:"How long events are kept. Negative: for ever."`
		MaxBytes   int64         `koanf:"max_bytes" doc:"Bytes of the log; then the oldest events go. Negative: no limit."`
		Reserve    int64         `koanf:"reserve" doc:"Bytes of the disk that stay free: below it publishing is refused. 0 is 256 MiB or 5 % of the disk, whichever is more. Negative: none."`
		ScrubEvery time.Duration `koanf:"scrub_every" doc:"How often the whole store is read through, at 5 MB/s, so that damage is known before it is asked for. 0 is 24h; negative: never."`
	} `koanf:"store"`

	NATS NATS `koanf:"nats"`

	Topics []Topic `koanf:"topics" reload:"yes" doc:"How topics are kept, each by the first pattern that matches; those that none matches are kept as store says. 250 at most. After SIGHUP none is kept longer than the longest was before."`

	Drain struct {
		Rate     int           `koanf:"rate" reload:"yes" doc:"Connections that are closed a second when the server is told to end; more if they would not be through in half of patience."`
		Patience time.Duration `koanf:"patience" reload:"yes" doc:"How long clients and requests may take to end when the server is told to."`
	} `koanf:"drain"`

	Hooks    []Hook `koanf:"hooks" reload:"yes" doc:"HTTP endpoints that are told or asked what happens."`
	Outbound struct {
		Allow []string `koanf:"allow" reload:"yes" doc:"Networks that hooks and the fetch of keys may reach though they are not public, as in 10.0.0.0/8."`
	} `koanf:"outbound"`
}

// Auth says who is let in and what he may do.
type Auth struct {
	Anonymous   bool          `koanf:"anonymous" reload:"yes" doc:"Let clients in without a token, with anonymous_permissions."`
	Audience    string        `koanf:"audience" reload:"yes" doc:"What tokens must name in aud. Empty: it is not looked at."`
	Leeway      time.Duration `koanf:"leeway" reload:"yes" doc:"How far the clocks of those who sign tokens may differ."`
	MaxLifetime time.Duration `koanf:"max_lifetime" reload:"yes" doc:"How far ahead a token may expire."`

	OneTime bool `koanf:"one_time" reload:"yes" doc:"Let nobody in twice by the same token: each needs the claim jti. What was used is remembered in memory until the token expires, at most limits.used_tokens."`

	Keys    []Key    `koanf:"keys" reload:"yes" doc:"Keys that tokens are signed with. HOLDPOST_JWT_SECRET in the environment is one more, for HS256."`
	Issuers []Issuer `koanf:"issuers" reload:"yes" doc:"Issuers whose keys are fetched (JWKS)."`
	APIKeys []APIKey `koanf:"api_keys" reload:"yes" doc:"Keys of programs that call the API. HOLDPOST_API_KEY in the environment is one more, for everything."`

	Permissions          Permissions `koanf:"permissions" reload:"yes" doc:"What a client may do whose token has no claim holdpost."`
	AnonymousPermissions Permissions `koanf:"anonymous_permissions" reload:"yes" doc:"What a client may do that has no token."`
}

// NATS says where the log is when it is not on the disk of the server.
type NATS struct {
	URLs            []string `koanf:"urls" doc:"NATS servers, 2.12 or newer with JetStream, that keep the log instead of this machine's disk, as in nats://a.example:4222 or tls://b.example:4222: some of one cluster."`
	CredentialsFile string   `koanf:"credentials_file" doc:"File with the user's JWT and key, as nsc makes it."`
	User            string   `koanf:"user" doc:"Or a user, whose password is in secret_file or secret_env. Without a user that is a token."`
	Secret          Secret   `koanf:",squash"`
	CAFile          string   `koanf:"ca_file" doc:"Certificates in PEM that sign those of the servers. Empty: the system's."`
	CertFile        string   `koanf:"cert_file" doc:"Certificate in PEM to show them."`
	KeyFile         string   `koanf:"key_file" doc:"Its private key in PEM."`
	Replicas        int      `koanf:"replicas" doc:"Copies of each stream, up to 5. 0 is 3 in a cluster, else 1."`
}

// Outside tells whether the log is on other servers.
func (n *NATS) Outside() bool { return len(n.URLs) > 0 }

// Permissions are patterns of names, by what may be done with them: * is any characters but /, ** any characters, {identity}
// the client's own identity.
type Permissions struct {
	Join      []string `koanf:"join" doc:"Rooms to be in, and whose members to see."`
	Send      []string `koanf:"send" doc:"Rooms to emit events to."`
	Subscribe []string `koanf:"subscribe" doc:"Topics to get the events of, and their history. One's own inbox needs no permission."`
	Publish   []string `koanf:"publish" doc:"Topics to publish to."`
	Work      []string `koanf:"work" doc:"Shared queues to take events from, of topics that may be subscribed to."`
}

// Topic says how the topics of a pattern are kept.
type Topic struct {
	Pattern       string        `koanf:"pattern" doc:"Which topics: * is any characters but /, ** any characters."`
	MustExist     bool          `koanf:"must_exist" doc:"Refuse to publish to a topic that was not made by holdpost topic create, or over the API. Else the first publish makes it."`
	MaxAge        time.Duration `koanf:"max_age" doc:"How long events are kept. 0 is store.max_age; negative: for ever."`
	MaxEvents     int64         `koanf:"max_events" doc:"Events of one topic that are kept. 0: no limit."`
	MaxBytes      int64         `koanf:"max_bytes" doc:"Bytes of one topic that are kept. 0: no limit."`
	Refuse        bool          `koanf:"refuse" doc:"At such a limit refuse new events, instead of dropping the oldest."`
	Compact       bool          `koanf:"compact" doc:"Keep the last event of each key only."`
	TTL           time.Duration `koanf:"ttl" doc:"How long an event is worth something that does not say so itself. 0: as long as it is kept."`
	MaxEventBytes int           `koanf:"max_event_bytes" doc:"Bytes of one event. 0 is 1,000,000, which is also the most."`
	DedupeWindow  time.Duration `koanf:"dedupe_window" doc:"How long an id is remembered, two minutes or more. 0 is two minutes."`
}

// Kept returns t as package queue has it.
func (t *Topic) Kept() queue.TopicConfig {
	return queue.TopicConfig{
		Pattern: t.Pattern, MustExist: t.MustExist, MaxAge: t.MaxAge, MaxEvents: t.MaxEvents, MaxBytes: t.MaxBytes, Refuse: t.Refuse,
		Compact: t.Compact, TTL: t.TTL, MaxEventBytes: t.MaxEventBytes, DedupeWindow: t.DedupeWindow,
	}
}

// Key is a key that tokens are signed with.
type Key struct {
	ID            string `koanf:"id" doc:"What tokens name in kid. Empty: any."`
	Algorithm     string `koanf:"algorithm" doc:"HS256, HS384, HS512, RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA: the only one for this key."`
	Issuer        string `koanf:"issuer" doc:"What tokens must name in iss. Empty: it is not looked at."`
	Secret        Secret `koanf:",squash"`
	PublicKeyFile string `koanf:"public_key_file" doc:"File with the public key in PEM, for RS, ES and EdDSA."`
}

// Issuer is where tokens come from whose keys are fetched.
type Issuer struct {
	Name       string   `koanf:"name" doc:"What tokens name in iss."`
	URL        string   `koanf:"url" doc:"Where its keys are, https. Fetched when needed, kept for 15 minutes, and 10 more while it can't be reached."`
	Algorithms []string `koanf:"algorithms" doc:"Algorithms that it signs with, not HS."`
}

// APIKey is a key of a program that calls the API.
type APIKey struct {
	Name        string       `koanf:"name" doc:"Whose it is, for the log."`
	Hash        string       `koanf:"hash" doc:"sha256: and the hash in hex, as holdpost token new --api prints it. Or the secret itself:"`
	Secret      Secret       `koanf:",squash"`
	Permissions *Permissions `koanf:"permissions" doc:"What it is for. Left out: everything, and managing."`
}

// Hook is an HTTP endpoint.
type Hook struct {
	URL    string   `koanf:"url" doc:"Where to POST to, http or https."`
	Events []string `koanf:"events" doc:"Of connect (decides), event (answers), disconnect, mail."`
	Secret Secret   `koanf:",squash"`
}

// Default returns the configuration that nothing was told.
func Default() *Config {
	c := new(Config)
	c.Listen = "127.0.0.1:7300"
	c.DataDir = "holdpost-data"
	c.Internal.Listen = "127.0.0.1:7301"
	c.Log.Level = "info"
	c.Log.Format = "text"
	c.Auth.Leeway = 30 * time.Second
	c.Auth.MaxLifetime = 30 * 24 * time.Hour
	c.Limits.ConnectionsPerAddress = 1000
	c.Limits.ConnectionsPerIdentity = 100
	c.Limits.HandshakesBurst = 20
	c.Limits.HandshakesWait = 5 * time.Second
	c.Limits.TLSHandshakes = 256
	c.Limits.EventsPerSecond = 200
	c.Limits.EventsBurst = 400
	c.Limits.UsedTokens = 100_000
	c.Limits.Payload = 1_000_000
	c.Limits.QueueBytes = 4 << 20
	c.Limits.Rooms = 512
	c.Limits.Subscriptions = 128
	c.Store.MaxAge = 72 * time.Hour
	c.Store.MaxBytes = 8 << 30
	c.Drain.Rate = 1000
	c.Drain.Patience = 30 * time.Second
	return c
}
