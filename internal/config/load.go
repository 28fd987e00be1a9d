package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Error says what is wrong with the configuration, and where that was said.
type Error struct {
	Where string // "--listen", "HOLDPOST_LISTEN", "holdpost.yaml: listen"; "" is nowhere: something is missing
	Err   error
	Hint  string // what to do; may be empty
}

func (e *Error) Error() string {
	if e.Where == "" {
		return e.Err.Error()
	}
	return e.Where + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Load returns the configuration: the defaults, under the file, if one is named, under the environment, under those of the
// flags that were given and are named like a key. The error is an [Error], or several joined.
func Load(file string, environ []string, flags *pflag.FlagSet) (*Config, error) {
	l := &loader{file: file, k: koanf.New("."), from: make(map[string]string)}
	c := Default()
	l.fields = fields(reflect.ValueOf(c).Elem(), "")
	if file != "" {
		if err := l.loadFile(); err != nil {
			return nil, err
		}
	}
	if err := l.loadEnvironment(environ); err != nil {
		return nil, err
	}
	if flags != nil {
		l.loadFlags(flags)
	}
	if err := l.decode(c); err != nil {
		return nil, err
	}
	return c, l.check(c)
}

type loader struct {
	file   string
	fields []field
	k      *koanf.Koanf
	from   map[string]string // key → where it was said last
}

func (l *loader) loadFile() error {
	f, err := os.Open(l.file)
	if err != nil {
		return &Error{Where: l.file, Err: errors.Unwrap(err)}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return &Error{Where: l.file, Err: err}
	}
	if len(b) > maxFile {
		return &Error{Where: l.file, Err: fmt.Errorf("it has more than %d bytes", maxFile)}
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return nil
	}
	if err := l.k.Load(rawbytes.Provider(b), yaml.Parser()); err != nil {
		return &Error{Where: l.file, Err: err}
	}
	if errs := l.unknown(l.k.Raw(), l.fields, ""); errs != nil {
		return errors.Join(errs...)
	}
	for _, f := range l.fields {
		if l.k.Exists(f.key) {
			l.from[f.key] = l.file + ": " + f.key
		}
	}
	return nil
}

// unknown finds keys that there are not, in lists too.
func (l *loader) unknown(said map[string]any, known []field, path string) (errs []error) {
	for name, value := range said {
		at := path + name
		var f *field
		var inside bool
		for i := range known {
			if known[i].key == name {
				f = &known[i]
			}
			inside = inside || strings.HasPrefix(known[i].key, name+".")
		}
		switch {
		case f == nil && !inside:
			hint := "see: holdpost config default"
			if near := Nearest(name, firsts(known)); near != "" {
				hint = fmt.Sprintf("did you mean %q?\n%s", path+near, hint)
			}
			errs = append(errs, &Error{l.file + ": " + at, errors.New("unknown key"), hint})
		case inside:
			inner, ok := value.(map[string]any)
			if !ok && value != nil {
				errs = append(errs, &Error{l.file + ": " + at, errors.New("keys are expected below it"), ""})
			}
			errs = append(errs, l.unknown(inner, below(known, name), at+".")...)
		case f.items != nil:
			items, ok := value.([]any)
			if object, is := value.(map[string]any); is && f.value.Kind() == reflect.Pointer {
				items, ok = []any{object}, true
			}
			if !ok && value != nil {
				errs = append(errs, &Error{l.file + ": " + at, fmt.Errorf("%s is expected", f.kind()), ""})
			}
			for i, item := range items {
				object, ok := item.(map[string]any)
				where := at
				if f.value.Kind() == reflect.Slice {
					where = fmt.Sprintf("%s[%d]", at, i)
				}
				if !ok {
					errs = append(errs, &Error{l.file + ": " + where, errors.New("keys are expected below it"), ""})
				}
				errs = append(errs, l.unknown(object, f.items, where+".")...)
			}
		}
	}
	return errs
}

// firsts lists the first parts of keys, below those that begin with a name.
func firsts(known []field) (names []string) {
	for _, f := range known {
		first, _, _ := strings.Cut(f.key, ".")
		names = append(names, first)
	}
	return names
}

func below(known []field, name string) (inner []field) {
	for _, f := range known {
		if rest, ok := strings.CutPrefix(f.key, name+"."); ok {
			f.key = rest
			inner = append(inner, f)
		}
	}
	return inner
}

func (l *loader) loadEnvironment(environ []string) error {
	values := make(map[string]any)
	for _, f := range l.fields {
		if f.items != nil {
			continue
		}
		for _, entry := range environ {
			if value, ok := strings.CutPrefix(entry, f.variable()+"="); ok && value != "" {
				values[f.key] = value
				l.from[f.key] = f.variable()
			}
		}
	}
	return l.k.Load(confmap.Provider(values, "."), nil)
}

func (l *loader) loadFlags(flags *pflag.FlagSet) {
	values := make(map[string]any)
	for _, f := range l.fields {
		if flag := flags.Lookup(f.flag()); flag != nil && flag.Changed {
			values[f.key] = flag.Value.String()
			l.from[f.key] = "--" + flag.Name
		}
	}
	l.k.Load(confmap.Provider(values, "."), nil) // a map of values can't fail
}

// decode fills c. Each field is decoded by itself, so that an error can tell where its value was said.
func (l *loader) decode(c *Config) error {
	var errs []error
	for _, f := range fields(reflect.ValueOf(c).Elem(), "") {
		if !l.k.Exists(f.key) || l.k.Get(f.key) == nil {
			continue
		}
		d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
			Result: f.value.Addr().Interface(), TagName: "koanf", WeaklyTypedInput: true, ZeroFields: true,
			DecodeHook: mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(), listHook),
		})
		if err == nil {
			err = d.Decode(l.k.Get(f.key))
		}
		if err != nil {
			errs = append(errs, &Error{l.from[f.key], fmt.Errorf("%s is expected", f.kind()), hintFor(&f)})
		}
	}
	return errors.Join(errs...)
}

func hintFor(f *field) string {
	if f.kind() == "duration" {
		return "write it as 30s, 5m or 72h"
	}
	return ""
}

// listHook makes a list of what a variable or a flag says, separated by commas.
func listHook(from, to reflect.Type, value any) (any, error) {
	text, ok := value.(string)
	if !ok || to != reflect.TypeFor[[]string]() {
		return value, nil
	}
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list, nil
}
