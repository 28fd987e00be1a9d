package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Reference returns docs/configuration.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration

This page is made by ` + "`holdpost config docs`" + `.

One YAML file, ` + "`holdpost serve --config FILE`" + `, under environment variables, under flags. A key that is unknown or stands there twice is an error, and so is a value
that makes no sense; ` + "`holdpost config check`" + ` tells without starting anything, and ` + "`holdpost config default`" + ` prints a file with all defaults.

The variable of a key is ` + "`HOLDPOST_`" + ` and the key in capitals: ` + "`internal.listen`" + ` is ` + "`HOLDPOST_INTERNAL_LISTEN`" + `. Lists are separated by commas there; lists of objects stand in the
file alone. Durations are written as in ` + "`30s`, `5m`, `72h`" + `; sizes are numbers of bytes. Secrets stand neither in the file nor on a command line: a key says in which file or
variable they are. ` + "`HOLDPOST_JWT_SECRET`" + ` and ` + "`HOLDPOST_API_KEY`" + ` are read without being told.

Keys marked with ↻ take effect when the process gets SIGHUP: the file is read again, and the log tells what changed and what needs a restart.

| key | is | default | |
|---|---|---|---|
`)
	for _, f := range fields(reflect.ValueOf(Default()).Elem(), "") {
		row(&b, &f, "")
	}
	return b.String()
}

func row(b *strings.Builder, f *field, prefix string) {
	mark := ""
	if f.reload {
		mark = " ↻"
	}
	value := ""
	if prefix == "" && f.items == nil {
		value = "`" + text(f.value) + "`"
	}
	fmt.Fprintf(b, "| `%s%s`%s | %s | %s | %s |\n", prefix, f.key, mark, f.kind(), value, strings.ReplaceAll(f.doc, "|", "\\|"))
	inside := "[]."
	if f.value.Kind() == reflect.Pointer {
		inside = "."
	}
	for _, item := range f.items {
		row(b, &item, prefix+f.key+inside)
	}
}

// DefaultFile returns a file with all keys and their defaults, each with what it means.
func DefaultFile() string {
	var b strings.Builder
	var open []string // the parts that the last key was below
	for _, f := range fields(reflect.ValueOf(Default()).Elem(), "") {
		parts := strings.Split(f.key, ".")
		path, name := parts[:len(parts)-1], parts[len(parts)-1]
		if len(path) < 1 && b.Len() > 0 || len(path) > 0 && !slices.Equal(path, open) {
			b.WriteString("\n")
		}
		for i, part := range path {
			if i >= len(open) || !slices.Equal(open[:i+1], path[:i+1]) {
				fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", i), part)
			}
		}
		open = path
		indent := strings.Repeat("  ", len(path))
		for _, line := range wrap(f.doc, 100) {
			fmt.Fprintf(&b, "%s# %s\n", indent, line)
		}
		fmt.Fprintf(&b, "%s%s: %s\n", indent, name, text(f.value))
	}
	return b.String()
}

// text returns a value as YAML.
func text(v reflect.Value) string {
	switch v := v.Interface().(type) {
	case string:
		if v == "" {
			return `""`
		}
		return v
	case time.Duration:
		s := v.String()
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
		return s
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	}
	if v.Kind() == reflect.Slice {
		return "[]"
	}
	return fmt.Sprint(v.Interface())
}

func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}

// Change is a key whose value differs between two configurations.
type Change struct {
	Key    string
	Reload bool // it takes effect without a restart
}

// Changes lists what differs.
func Changes(before, after *Config) (all []Change) {
	old := fields(reflect.ValueOf(before).Elem(), "")
	for i, f := range fields(reflect.ValueOf(after).Elem(), "") {
		if f.value.Kind() == reflect.Slice && f.value.Len()+old[i].value.Len() == 0 { // nil or not
			continue
		}
		if !reflect.DeepEqual(old[i].value.Interface(), f.value.Interface()) {
			all = append(all, Change{f.key, f.reload})
		}
	}
	return all
}
