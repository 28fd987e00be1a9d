package gate

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdpost/holdpost/internal/auth"
)

// maxIdentity bounds an identity in bytes: it is the name of a queue.
const maxIdentity = 255

// devClient believes every client: its identity is auth.client. Without one it has none.
func devClient(said json.RawMessage) (*auth.Client, error) {
	identity, problem := clientOf(said)
	if problem != "" {
		return nil, &auth.Error{Code: "invalid_identity", Detail: problem}
	}
	return auth.Trusted(identity), nil
}

// clientOf reads auth.client. What is wrong with it is told to the client.
func clientOf(auth json.RawMessage) (identity, problem string) {
	if len(auth) == 0 {
		return "", ""
	}
	members := make(map[string]json.RawMessage)
	if err := json.Unmarshal(auth, &members); err != nil {
		return "", "auth is not an object"
	}
	raw, ok := members["client"]
	if !ok || string(raw) == "null" {
		return "", ""
	}
	if err := json.Unmarshal(raw, &identity); err != nil {
		return "", "auth.client is not a string"
	}
	switch {
	case identity == "":
		return "", "auth.client is empty"
	case len(identity) > maxIdentity:
		return "", "auth.client is longer than 255 bytes"
	case !utf8.ValidString(identity) || strings.ContainsFunc(identity, unicode.IsControl):
		return "", "auth.client has control characters"
	}
	return identity, ""
}
