package app

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdpost/holdpost/internal/config"
)

const changesPath = "/v1/config/changes"

// configChanges says what a server makes of its configuration as it is now.
type configChanges struct {
	checkResult
	Changed     []string `json:"changed"`     // keys that SIGHUP puts into effect
	NeedRestart []string `json:"needRestart"` // keys that only a new process does
}

// newConfigChanges compares what is in effect with what a server was started with, and with what it would take now.
func newConfigChanges(started, before, now, read *config.Config) configChanges {
	return configChanges{
		Changed:     changes(before, now, true),
		NeedRestart: append(changes(started, read, false), changes(now, read, true)...),
	}
}

// configChanges answers with what SIGHUP would do.
func (s *server) configChanges(w http.ResponseWriter, _ *http.Request) {
	c, err := s.load()
	if err == nil {
		_, _, err = s.readRules(c)
	}
	if err == nil && s.files != nil { // whatever it names now, those that it was started with are read again
		_, err = openCertificate(s.files.certFile, s.files.keyFile)
	}
	said := configChanges{Changed: []string{}, NeedRestart: []string{}}
	if err == nil {
		before, now := s.now.Load(), *c
		if s.store.CheckTopics(topics(c)) != nil {
			now.Topics = before.Topics
		}
		said = newConfigChanges(s.config, before, &now, c)
	}
	said.checkResult = newCheckResult(err)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(said) // an error is the client's going away
}

func newConfigDiff() *cobra.Command {
	return call{
		use: "diff", short: "Tell what a running server would take of its configuration, and what needs a restart",
		long: `Have a running server read its configuration, file, environment and flags, as SIGHUP would, and tell what
has changed since it did so last: what SIGHUP puts into effect, and what needs a restart. Nothing is changed. New
contents of files that the configuration names, as certificates and secrets, are no change of it, and SIGHUP takes them.
What needs a restart is not looked into: holdpost config check tells whether the next process could begin with it.`,
		example: "  holdpost config diff && systemctl reload holdpost",
		do: func(cmd *cobra.Command, c *client, _ []string) (any, error) {
			said := new(configChanges)
			if err := c.call(cmd.Context(), http.MethodGet, changesPath, nil, said); err != nil {
				return nil, err
			}
			if said.OK {
				return said, nil
			}
			e := &exitError{code: exitConfig, err: errors.New("the server would not take its configuration")}
			for _, one := range said.Errors {
				e.hint += one.text()
			}
			return nil, e
		},
		show: func(w io.Writer, answer any) {
			said := answer.(*configChanges)
			for _, key := range said.Changed {
				row(w, key, "SIGHUP")
			}
			for _, key := range said.NeedRestart {
				row(w, key, "restart")
			}
			if len(slices.Concat(said.Changed, said.NeedRestart)) == 0 {
				row(w, "nothing has changed")
			}
		},
	}.command()
}
