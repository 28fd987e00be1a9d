package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// message is how a publish looks to its sender; decodeMessage reads it.
type message struct {
	Topic       string          `json:"topic"`
	Event       string          `json:"event"`
	Args        json.RawMessage `json:"args,omitempty"`
	Attachments [][]byte        `json:"attachments,omitempty"` // what the placeholders in args refer to
	ID          string          `json:"id,omitempty"`
	Key         string          `json:"key,omitempty"`
	TTL         span            `json:"ttl,omitempty"`
	Delay       span            `json:"delay,omitempty"`
	At          time.Time       `json:"at,omitzero"`
	ExpectLast  string          `json:"expectLast,omitempty"` // the offset that the topic's last event must have; "" is none
}

func (a *api) describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(a.openapi)
}

type object = map[string]any

var inPath = regexp.MustCompile(`\{(\w+)\}`)

// parameters says of each parameter of a URL what it is.
var parameters = map[string]object{
	"from":   {"type": "string", "description": "new, first, last, an offset, or an RFC 3339 time"},
	"after":  {"type": "string", "description": "the last one of the page before"},
	"limit":  {"type": "integer", "minimum": 1, "description": "at most so many; more than 1,000 is 1,000"},
	"topic":  {"type": "string"},
	"since":  {"type": "string", "format": "date-time"},
	"follow": {"type": "boolean"},
}

// describe returns the OpenAPI 3.1 description of routes.
func describe(routes []route) []byte {
	schemas := make(object)
	paths := make(map[string]object)
	for _, r := range routes {
		var params []object
		for _, m := range inPath.FindAllStringSubmatch(r.path, -1) {
			params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
		}
		for _, name := range r.query {
			params = append(params, object{"name": name, "in": "query", "schema": parameters[name]})
		}
		problems := object{"description": "what went wrong", "content": object{"application/problem+json": object{"schema": schema(reflect.TypeFor[problem](), schemas)}}}
		op := object{"summary": r.summary, "operationId": operationID(r), "responses": object{"default": problems}}
		if len(params) > 0 {
			op["parameters"] = params
		}
		if r.in != nil {
			op["requestBody"] = object{"content": object{"application/json": object{"schema": schema(reflect.TypeOf(r.in), schemas)}}}
		}
		if r.out != nil {
			op["responses"].(object)["200"] = object{"description": "done", "content": object{"application/json": object{"schema": schema(reflect.TypeOf(r.out), schemas)}}}
		} else {
			op["responses"].(object)["204"] = object{"description": "done"}
		}
		if r.needs == nothing {
			op["security"] = []object{}
		}
		if paths[r.path] == nil {
			paths[r.path] = make(object)
		}
		paths[r.path][strings.ToLower(r.method)] = op
	}
	b, err := json.MarshalIndent(object{
		"openapi":    "3.1.0",
		"info":       object{"title": "Holdpost", "version": "1"},
		"security":   []object{{"key": []string{}}},
		"paths":      paths,
		"components": object{"schemas": schemas, "securitySchemes": object{"key": object{"type": "http", "scheme": "bearer"}}},
	}, "", "  ")
	if err != nil {
		panic(err) // maps and texts can always be encoded
	}
	return b
}

func operationID(r route) string {
	words := strings.FieldsFunc(strings.TrimPrefix(r.path, "/v1"), func(c rune) bool { return strings.ContainsRune("/{}.", c) })
	return strings.ToLower(r.method) + "_" + strings.Join(words, "_")
}

// schema returns the JSON schema of a type; that of a struct goes under its name into schemas.
func schema(t reflect.Type, schemas object) object {
	switch {
	case t == reflect.TypeFor[span]():
		return object{"type": "string", "description": "a duration as in 30s"}
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return object{"type": "array", "items": object{}}
	case t == reflect.TypeFor[[]byte]():
		return object{"type": "string", "contentEncoding": "base64"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schema(t.Elem(), schemas)
	case reflect.Slice:
		return object{"type": "array", "items": schema(t.Elem(), schemas)}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Map:
		return object{"type": "object"}
	}
	ref := object{"$ref": "#/components/schemas/" + t.Name()}
	if _, ok := schemas[t.Name()]; ok {
		return ref
	}
	schemas[t.Name()] = nil // it may hold itself
	properties, required := make(object), []string{}
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		properties[name] = schema(f.Type, schemas)
		if options == "" {
			required = append(required, name)
		}
	}
	schemas[t.Name()] = object{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	return ref
}
