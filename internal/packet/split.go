package packet

// Split checks a JSON array within limits and returns its elements, which alias it.
func Split(array []byte, l *Limits) ([][]byte, error) {
	r := reader{scan: scan{b: array, depth: l.Depth, values: l.Values}, limits: l}
	p := Packet{Type: Ack}
	if r.list(r.space(0), &p) < 0 {
		return nil, r.err()
	}
	return p.Args, nil
}
