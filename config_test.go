package holdpost_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
)

func TestValidate(t *testing.T) {
	for name, c := range map[string]*holdpost.Config{
		"nil":     nil,
		"nothing": {},
		"all off": {PingInterval: -1, ConnectTimeout: -1},
		"origins": {Origins: []string{"https://example.com", "http://localhost:*", "https://*.example.com:8443", "http://[::1]:80", "http://[fe80::1%eth0]:*", "capacitor://localhost"}},
		"anyone":  {Origins: []string{"*"}},
		"one":     {Transports: []string{"websocket"}},
		"cookie":  {Cookie: &http.Cookie{Path: "/"}, CompressFrom: -1},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for want, c := range map[string]*holdpost.Config{
		`Path: "x"`: {Path: "x"},
		`Transports: "carrier pigeon" is unknown`: {Transports: []string{"polling", "carrier pigeon"}},
		`stands alone`:             {Origins: []string{"*", "https://example.com"}},
		`"example.com" is not`:     {Origins: []string{"example.com"}},
		`"https://" is not`:        {Origins: []string{"https://"}},
		`"https://a/" is not`:      {Origins: []string{"https://a/"}},
		`"https://*" is not`:       {Origins: []string{"https://*"}},
		`"https://a.*.com" is not`: {Origins: []string{"https://a.*.com"}},
		`"https://u@a" is not`:     {Origins: []string{"https://u@a"}},
		`"null" is not`:            {Origins: []string{"null"}},
		`"" is not`:                {Origins: []string{""}},
		"Recovery: no journal":     {Recovery: &holdpost.Recovery{}},
		"Cookie: http: invalid":    {Cookie: &http.Cookie{Name: "a b"}},
		"MaxPayload: below zero":   {MaxPayload: -1},
		"MaxRooms: below zero":     {MaxRooms: -2},
		"WriteTimeout: below zero": {WriteTimeout: -time.Second},
	} {
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		func() {
			defer func() {
				if v, ok := recover().(error); !ok || v.Error() != err.Error() {
					t.Errorf("%s: NewServer panics with %v", want, v)
				}
			}()
			holdpost.NewServer(c)
		}()
	}
	if err := (&holdpost.Config{Path: "x", MaxRooms: -1}).Validate(); strings.Count(err.Error(), "config: ") != 2 {
		t.Errorf("two mistakes: %v", err)
	}
}
