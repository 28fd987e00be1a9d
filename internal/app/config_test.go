package app

import (
	"testing"

	"github.com/spf13/pflag"
)

func TestEnvironment(t *testing.T) {
	set := func(given []string, environ ...string) (server, file string, err error) {
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.StringVar(&server, "server", "default", "")
		f.StringVar(&file, "config", "default", "")
		f.String("id", "", "")
		if err := f.Parse(given); err != nil {
			t.Fatal(err)
		}
		err = fromEnvironment(f, environ)
		return server, file, err
	}
	for _, c := range []struct {
		given, environ []string
		listen, dir    string
	}{
		{nil, nil, "default", "default"},
		{nil, []string{"HOLDPOST_SERVER=a", "HOLDPOST_CONFIG=b=c"}, "a", "b=c"},
		{[]string{"--server=flag"}, []string{"HOLDPOST_SERVER=a"}, "flag", "default"},
		{nil, []string{"HOLDPOST_SERVER=", "HOLDPOST_LISTEN=x", "holdpost_server=a", "SERVER=a"}, "default", "default"},
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
