package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"text/tabwriter"

	"github.com/holdpost/holdpost/queue/embedded"
)

// storeReport is what a store was found to be like.
type storeReport struct {
	Dir     string        `json:"dir"`
	Epoch   string        `json:"epoch"`
	Streams []storeStream `json:"streams"`
	Forgets bool          `json:"forgets,omitempty"` // a queue that is not on record may have been lost
	Mends   []string      `json:"mends"`             // which cost nothing, and which the next start makes by itself
	Loss    string        `json:"loss,omitempty"`    // for which a server refuses to start

	// Recovery is the journal of what live clients missed, nil if there is none. A server never refuses to start because of it.
	Recovery *storeReport `json:"recovery,omitempty"`
}

type storeStream struct {
	Name     string `json:"name"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Messages uint64 `json:"messages"`
}

func reportOf(dir string, r *embedded.Report) storeReport {
	s := storeReport{Dir: dir, Epoch: fmt.Sprintf("%016x", r.Epoch), Forgets: r.Forgets, Streams: []storeStream{}, Mends: []string{}}
	for _, x := range r.Streams {
		s.Streams = append(s.Streams, storeStream(x))
	}
	for _, d := range r.Scars {
		s.Mends = append(s.Mends, d.String())
	}
	if r.Loss != nil {
		s.Loss = r.Loss.Error()
	}
	return s
}

func (s storeReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		b, err := json.Marshal(s)
		if err == nil {
			_, err = fmt.Fprintln(w, printable(string(b)))
		}
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "store", s.Dir)
	row(t, "epoch", s.Epoch)
	for _, x := range s.Streams {
		row(t, x.Name, fmt.Sprintf("%d messages, %d to %d", x.Messages, x.First, x.Last))
	}
	if s.Forgets {
		row(t, "queues", "some may be missing; one that is not on record begins anew, with all that is kept")
		row(t, "revoked", "some may be missing, and are let in again: revoke again")
	}
	for _, m := range s.Mends {
		row(t, "to be mended", m)
	}
	switch r := s.Recovery; {
	case r == nil:
	case r.Loss != "":
		row(t, "recovery", "what live clients missed is damaged: they are not recovered, and told so: "+r.Loss)
	default:
		row(t, "recovery", "what live clients missed can be read")
	}
	switch {
	case s.Loss != "":
		row(t, "lost", s.Loss)
	case len(s.Mends) == 0:
		row(t, "whole", "nothing is missing, and everything can be read")
	default:
		row(t, "whole", "nothing is missing; the next start mends the rest")
	}
	return t.Flush()
}

// verifyJournal reads the journal of recovery; nil is that there is none.
func verifyJournal(dir string, p *progress) (*storeReport, error) {
	dir = filepath.Join(dir, journalDir)
	r, err := embedded.Verify(dir, p.of)
	p.end()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := reportOf(dir, r)
	return &s, nil
}
