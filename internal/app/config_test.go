package app

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestNearest(t *testing.T) {
	known := []string{"listen", "internal-listen", "data-dir", "dev", "json"}
	for word, want := range map[string]string{
		"lisen": "listen", "listne": "listen", "data-dr": "data-dir", "datadir": "data-dir", "dve": "", "dex": "dev", "jsn": "json",
		"port": "", "x": "", "": "", "listen": "listen", strings.Repeat("x", 1000): "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("nearest to %.20q: %q, want %q", word, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	set := func(given []string, environ ...string) (listen, dir string, err error) {
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.StringVar(&listen, "listen", "default", "")
		f.StringVar(&dir, "data-dir", "default", "")
		f.String("id", "", "")
		if err := f.Parse(given); err != nil {
			t.Fatal(err)
		}
		err = fromEnvironment(f, environ)
		return listen, dir, err
	}
	for _, c := range []struct {
		given, environ []string
		listen, dir    string
	}{
		{nil, nil, "default", "default"},
		{nil, []string{"HOLDPOST_LISTEN=a", "HOLDPOST_DATA_DIR=b=c"}, "a", "b=c"},
		{[]string{"--listen=flag"}, []string{"HOLDPOST_LISTEN=a"}, "flag", "default"},
		{nil, []string{"HOLDPOST_LISTEN=", "HOLDPOST_SERVER=x", "holdpost_listen=a", "LISTEN=a"}, "default", "default"},
		{nil, []string{"HOLDPOST_ID=x", "HOLDPOST_PORT=tcp://10.0.0.1", "HOLDPOST"}, "default", "default"},
	} {
		listen, dir, err := set(c.given, c.environ...)
		if err != nil || listen != c.listen || dir != c.dir {
			t.Errorf("%q %q: %q %q %v, want %q %q", c.given, c.environ, listen, dir, err, c.listen, c.dir)
		}
	}
	if _, _, err := set(nil, "HOLDPOST_LISTN=a"); err == nil || err.Error() != "unknown environment variable HOLDPOST_LISTN" {
		t.Errorf("misspelt: %v", err)
	}
}

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

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain, ünï 🦊": "plain, ünï 🦊",
		"\x1b[31mred":  `\u001b[31mred`,
		"a\nb\tc\x7f":  `a\u000ab\u0009c\u007f`,
		"\u0085\u009b": `\u0085\u009b`,
		"\u202eevil":   `\u202eevil`,
		"\u2028\u2029": `\u2028\u2029`,
		"\U000e0041":   `\udb40\udc41`,
		"a\xffb":       `a\ufffdb`,
		"\ufffd":       "\ufffd",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
