package embedded

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// The names in a backup are no paths: whatever they are, nothing is written but the store, and of one that is refused nothing is left (A10).
func TestRestoreOfHostileArchives(t *testing.T) {
	manifest := tar.Header{Name: manifestName, Typeflag: tar.TypeReg}
	text, err := json.Marshal(map[string]any{"version": backupVersion, "epoch": 7, "last": 1})
	if err != nil {
		t.Fatal(err)
	}
	stream := func(name string) []byte {
		b, err := json.Marshal(server.JSApiStreamSnapshotResponse{Config: &server.StreamConfig{Name: name, Storage: server.FileStorage, Subjects: []string{"x"}}, State: &server.StreamState{Msgs: 1, LastSeq: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		header tar.Header
		data   []byte
	}{
		"a path upwards":     {tar.Header{Name: "../evil/" + streamFile, Typeflag: tar.TypeReg}, stream("../evil")},
		"an absolute path":   {tar.Header{Name: "/evil/" + streamFile, Typeflag: tar.TypeReg}, stream("/evil")},
		"another stream":     {tar.Header{Name: "evil/" + streamFile, Typeflag: tar.TypeReg}, stream("other")},
		"a name with a line": {tar.Header{Name: "e\nvil/" + streamFile, Typeflag: tar.TypeReg}, stream("e\nvil")},
		"a wildcard":         {tar.Header{Name: ">/" + streamFile, Typeflag: tar.TypeReg}, stream(">")},
		"a long name":        {tar.Header{Name: strings.Repeat("x", 5000) + "/" + streamFile, Typeflag: tar.TypeReg}, stream(strings.Repeat("x", 5000))},
		"a symbolic link":    {tar.Header{Name: "EVT_0/" + streamFile, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, nil},
		"a device":           {tar.Header{Name: "EVT_0/" + streamFile, Typeflag: tar.TypeChar}, nil},
		"a file upwards":     {tar.Header{Name: "../../evil", Typeflag: tar.TypeReg}, []byte("evil")},
	} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		for _, e := range []struct {
			header tar.Header
			data   []byte
		}{{manifest, text}, {c.header, c.data}} {
			e.header.Size, e.header.Mode = int64(len(e.data)), 0o600
			if err := w.WriteHeader(&e.header); err != nil {
				t.Fatal(err)
			}
			w.Write(e.data)
		}
		w.Close()
		around := t.TempDir()
		if err := Restore(t.Context(), Config{Dir: filepath.Join(around, "a", "store"), Reserve: -1, Logger: quiet(t)}, &archive); err == nil {
			t.Errorf("%s is restored", name)
		}
		left, err := filepath.Glob(filepath.Join(around, "*", "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: %q are left", name, left)
		}
		if _, err := os.Stat(filepath.Join(around, "evil")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written elsewhere: %v", name, err)
		}
	}
}
