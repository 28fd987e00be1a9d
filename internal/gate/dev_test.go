package gate

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestClientOf(t *testing.T) {
	name := strings.Repeat("x", maxIdentity)
	for _, c := range []struct{ auth, identity, problem string }{
		{``, "", ""},
		{`{}`, "", ""},
		{`{"client":null}`, "", ""},
		{`{"client":"ann"}`, "ann", ""},
		{`{"client":"ann/é 🦊.*>","token":"x"}`, "ann/é 🦊.*>", ""},
		{`{"client":"` + name + `"}`, name, ""},
		{`{"client":"` + name + `x"}`, "", "auth.client is longer than 255 bytes"},
		{`{"client":""}`, "", "auth.client is empty"},
		{`{"client":7}`, "", "auth.client is not a string"},
		{`{"client":"a\u0000b"}`, "", "auth.client has control characters"},
		{`{"client":"a\u0085b"}`, "", "auth.client has control characters"},
		{`[]`, "", "auth is not an object"},
		{`"ann"`, "", "auth is not an object"},
	} {
		identity, problem := clientOf(json.RawMessage(c.auth))
		if identity != c.identity || problem != c.problem {
			t.Errorf("%.40s: %.40q, %q; want %.40q, %q", c.auth, identity, problem, c.identity, c.problem)
		}
	}
}
