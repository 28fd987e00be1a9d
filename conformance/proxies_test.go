//go:build unix

package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdpost/holdpost/client"
)

// long has TestProxies try everything, also what takes a minute.
var long = os.Getenv("HOLDPOST_LONG") != ""

// A proxy is one that docs/operations.md has a recipe for.
type proxy struct {
	program  string
	language string // of the recipe's code block
	listen   string // what stands there for the address to listen on; "" if args have it
	around   string // the rest of the configuration; RECIPE and DIR stand for what they say
	args     []string
	quick    bool // tried in every run
	late     bool // it listens before it has read its routes, and answers 404
	spoilt   []spoilt
}

// A spoilt recipe has a line that is another one, and the doctor says which check fails, and what to do.
type spoilt struct {
	from, to    string
	check, hint string
	slow        bool // takes half a minute
}

var recipes = []proxy{
	{
		program: "nginx", language: "nginx", listen: "listen 80", args: []string{"-p", "DIR", "-c", "FILE"}, quick: true,
		around: `daemon off; pid DIR/pid; error_log stderr; ` + asRoot("user root;") + ` events { worker_connections 768; }
http { access_log off; client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s; RECIPE }`,
		spoilt: []spoilt{
			{"proxy_set_header Upgrade $http_upgrade;", "", "websocket", "proxy_set_header Upgrade", false},
			{"client_max_body_size 2m", "client_max_body_size 100k", "size", "client_max_body_size", false},
			{"location /socket.io/ ", "location /elsewhere/ ", "server", "pass /socket.io/ on", false},
			{"127.0.0.1:7300", "127.0.0.1:1", "server", "how the proxy reaches it", false},
			{"proxy_read_timeout 60s", "proxy_read_timeout 10s", "quiet", "proxy_read_timeout", true},
		},
	},
	{
		program: "haproxy", language: "haproxy", listen: "bind :80", args: []string{"-db", "-f", "FILE"}, quick: true,
		around: "defaults\n    timeout connect 5000\n    timeout client 50000\n    timeout server 50000\nRECIPE",
		spoilt: []spoilt{
			{"timeout tunnel 60s", "timeout tunnel 10s", "quiet", "timeout tunnel", true},
			{"timeout server 60s", "timeout server 10s", "quiet", "timeout server", true},
		},
	},
	{
		program: "apache2", language: "apache", listen: "*:80", args: []string{"-DFOREGROUND", "-f", "FILE"},
		around: `LoadModule mpm_event_module MODULES/mod_mpm_event.so
LoadModule authz_core_module MODULES/mod_authz_core.so
LoadModule proxy_module MODULES/mod_proxy.so
LoadModule proxy_http_module MODULES/mod_proxy_http.so
ServerRoot DIR
ServerName localhost
DefaultRuntimeDir DIR
PidFile DIR/pid
ErrorLog /dev/stderr
` + asRoot("User www-data\nGroup www-data") + `
Listen ADDRESS
RECIPE`,
		spoilt: []spoilt{
			{" upgrade=websocket", "", "websocket", "upgrade=websocket", false},
			{"timeout=60", "timeout=10", "quiet", "ProxyPass with timeout=60", true},
		},
	},
	{
		program: "caddy", language: "caddy", listen: ":80", args: []string{"run", "--adapter", "caddyfile", "--config", "FILE"},
		around: "{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}\nRECIPE",
	},
	{
		program: "traefik", language: "yml", args: []string{"--entryPoints.web.address=ADDRESS", "--providers.file.filename=FILE"}, late: true,
		around: "RECIPE",
		spoilt: []spoilt{{"127.0.0.1:7300", "127.0.0.1:1", "server", "how the proxy reaches it", false}},
	},
}

func asRoot(line string) string {
	if os.Geteuid() == 0 {
		return line
	}
	return ""
}

// The recipes of docs/operations.md, in front of a server: clients, the addresses that they have, restarts, and the doctor, who
// says what is wrong with a recipe that was spoilt.
func TestProxies(t *testing.T) {
	skipShort(t)
	for _, p := range recipes {
		t.Run(p.program, func(t *testing.T) {
			program, err := exec.LookPath(p.program)
			if err != nil {
				if program, err = exec.LookPath("/usr/sbin/" + p.program); err != nil {
					t.Skipf("%s is not installed", p.program)
				}
			}
			if !p.quick && !long {
				t.Skipf("%s is for make proxies", p.program)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "holdpost.yaml")
			if err := os.WriteFile(file, []byte("proxies: [127.0.0.1]\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := newServer(t, "--config", file)
			front := p.start(t, program, s.listen, nil)
			doctor(t, front, "0", "")
			clientAddress(t, s, front)
			behind := s.url
			s.url = front
			some := transports
			if !long {
				some = []string{"upgrade"}
			}
			for _, transport := range some {
				t.Run(transport, func(t *testing.T) { runScript(t, "live.mjs", s, "HOLDPOST_TRANSPORT="+transport) })
			}
			s.url = behind
			t.Run("doctor", func(t *testing.T) {
				if long {
					t.Run("quiet", func(t *testing.T) {
						t.Parallel()
						doctor(t, p.start(t, program, s.listen, nil), "100s", "")
					})
				}
				for _, wrong := range p.spoilt {
					if wrong.slow && !long {
						continue
					}
					t.Run(wrong.to, func(t *testing.T) {
						t.Parallel()
						hold := "0"
						if wrong.slow {
							hold = "30s"
						}
						doctor(t, p.start(t, program, s.listen, &wrong), hold, wrong.check, wrong.hint)
					})
				}
			})
		})
	}
}

// recipe returns the proxy's code block of the page.
func (p *proxy) recipe(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```" + p.language + "\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatalf("docs/operations.md has no recipe for %s", p.program)
	}
	return string(m[1])
}

// start starts the proxy in front of a server and returns its URL.
func (p *proxy) start(t *testing.T, program, server string, wrong *spoilt) string {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	recipe := p.recipe(t)
	replace := func(old, by string) {
		if !strings.Contains(recipe, old) {
			t.Fatalf("the recipe for %s lacks %q", p.program, old)
		}
		recipe = strings.ReplaceAll(recipe, old, by)
	}
	if wrong != nil {
		replace(wrong.from, wrong.to)
	}
	if wrong == nil || wrong.from != "127.0.0.1:7300" {
		replace("127.0.0.1:7300", server)
	}
	host, port, _ := net.SplitHostPort(address)
	if p.listen != "" {
		replace(p.listen, strings.NewReplacer(":80", ":"+port, "*", host, " 80", " "+address, "bind :80", "bind "+address).Replace(p.listen))
	}
	around := strings.NewReplacer("RECIPE", recipe, "DIR", dir, "ADDRESS", address, "MODULES", "/usr/lib/apache2/modules").Replace(p.around)
	file := filepath.Join(dir, "config.yml") // most take any name
	if err := os.WriteFile(file, []byte(around), 0o644); err != nil {
		t.Fatal(err)
	}
	args := make([]string, len(p.args))
	for i, a := range p.args {
		args[i] = strings.NewReplacer("FILE", file, "DIR", dir, "ADDRESS", address).Replace(a)
	}
	cmd := exec.Command(program, args...)
	said := &output{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has children
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if t.Failed() {
			t.Logf("what %s said:\n%s", p.program, said.tail(30))
		}
	})
	listens(t, address, said)
	for deadline := time.Now().Add(patience); p.late; {
		if status, _ := get("http://" + address + "/socket.io/"); status != http.StatusNotFound {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s passes nothing on", p.program)
		}
		<-time.After(10 * time.Millisecond)
	}
	return "http://" + address
}

// doctor runs holdpost doctor. One check fails, if it is named, with these words in the hint; the others don't.
func doctor(t *testing.T, url, hold, check string, hints ...string) {
	t.Helper()
	cmd := exec.Command(binary, "doctor", "--json", "--url", url, "--hold", hold)
	cmd.Dir = t.TempDir()
	out, _ := cmd.Output() // its exit code is the findings'
	found := false
	for line := range strings.Lines(string(out)) {
		var f struct{ Check, Result, Detail, Hint string }
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		switch {
		case f.Check == check:
			found = f.Result == "fail"
			for _, h := range hints {
				if !strings.Contains(f.Hint, h) {
					t.Errorf("%s: the hint lacks %q", line, h)
				}
			}
		case f.Result == "fail" && !(f.Check == "upgrade" && check == "websocket"):
			t.Error(line)
		}
	}
	if found != (check != "") || len(out) == 0 {
		t.Errorf("want %q to fail:\n%s", check, out)
	}
}

var internalURL = regexp.MustCompile(`API +(http://\S+)`)

// clientAddress looks whether the server knows where a client comes from that pretends to come from elsewhere.
func clientAddress(t *testing.T, s *server, front string) {
	t.Helper()
	const from = "127.0.0.2"
	c := client.New(front, &client.Config{
		Auth: map[string]string{"client": "ann"}, Header: http.Header{"X-Forwarded-For": {"192.0.2.1"}},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(ctx, network, address)
		},
	})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Of("/").Connect(ctx); err != nil {
		t.Fatal(err)
	}
	status, body := get(fmt.Sprintf("%s/v1/sockets/%s", s.log.find(internalURL), c.Of("/").ID()))
	if status != http.StatusOK || !strings.Contains(body, `"address":"`+from+`"`) {
		t.Errorf("the client's address: %d %s", status, body)
	}
}
