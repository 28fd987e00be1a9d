package config

import (
	"reflect"
	"strings"
	"time"
)

// field is one key of the configuration, found by its tags.
type field struct {
	key    string // "internal.listen"
	doc    string
	reload bool
	value  reflect.Value
	items  []field // of a list of objects: the keys of one of them
}

const envPrefix = "HOLDPOST_"

func (f *field) variable() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
}

func (f *field) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(f.key) }

// fields lists the keys of a struct in the order of its fields.
func fields(v reflect.Value, prefix string) (all []field) {
	for i := range v.NumField() {
		t, value := v.Type().Field(i), v.Field(i)
		name, squash := strings.CutSuffix(t.Tag.Get("koanf"), ",squash")
		switch {
		case squash:
			all = append(all, fields(value, prefix)...)
		case t.Type.Kind() == reflect.Struct:
			inner := fields(value, prefix+name+".")
			for i := range inner {
				inner[i].reload = inner[i].reload || t.Tag.Get("reload") != ""
			}
			all = append(all, inner...)
		default:
			f := field{key: prefix + name, doc: t.Tag.Get("doc"), reload: t.Tag.Get("reload") != "", value: value}
			if e := element(t.Type); e != nil {
				f.items = fields(reflect.New(e).Elem(), "")
			}
			all = append(all, f)
		}
	}
	return all
}

// element returns the struct that a list has for elements, or that a pointer points to; nil if it is neither.
func element(t reflect.Type) reflect.Type {
	if (t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer) && t.Elem().Kind() == reflect.Struct {
		return t.Elem()
	}
	return nil
}

// Variables lists the environment variables that set a key.
func Variables() []string {
	var names []string
	for _, f := range fields(reflect.ValueOf(Default()).Elem(), "") {
		if f.items == nil {
			names = append(names, f.variable())
		}
	}
	return names
}

// kind names the type of a field for people.
func (f *field) kind() string {
	switch f.value.Interface().(type) {
	case bool:
		return "true or false"
	case string:
		return "text"
	case time.Duration:
		return "duration"
	case []string:
		return "list of texts"
	}
	if f.value.Kind() == reflect.Slice {
		return "list of objects"
	}
	if f.items != nil {
		return "object"
	}
	return "number"
}
