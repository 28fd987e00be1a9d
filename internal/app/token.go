package app

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	"github.com/holdpost/holdpost/internal/auth"
)

func newToken() *cobra.Command {
	return group("token", "Make and check tokens", newTokenNew(), newTokenCheck())
}

func newTokenNew() *cobra.Command {
	var api, asJSON bool
	var expires time.Duration
	var grants auth.Permissions
	cmd := &cobra.Command{
		Use:   "new [IDENTITY]",
		Short: "Make a token for a client, or a key for the API",
		Long: `Make a token for a client with this identity, signed with HOLDPOST_JWT_SECRET (HS256). It is meant
for trying things out: your own program makes the tokens of its users.

With --api make a key for programs that call the API: give the key to the program as
HOLDPOST_API_KEY, and its hash to the server, in auth.api_keys.`,
		Example: `  holdpost token new ann --expires 1h --subscribe 'orders/**'
  holdpost token new --api`,
		Args: func(cmd *cobra.Command, args []string) error {
			if api {
				return positional(false)(cmd, args)
			}
			return positional(false, "IDENTITY")(cmd, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&api, "api", false, "make a key for the API")
	f.DurationVar(&expires, "expires", time.Hour, "how long the token holds")
	f.StringSliceVar(&grants.Join, "join", nil, "`patterns` of rooms to be in")
	f.StringSliceVar(&grants.Send, "send", nil, "`patterns` of rooms to emit to")
	f.StringSliceVar(&grants.Subscribe, "subscribe", nil, "`patterns` of topics to subscribe to")
	f.StringSliceVar(&grants.Publish, "publish", nil, "`patterns` of topics to publish to")
	f.StringSliceVar(&grants.Work, "work", nil, "`patterns` of shared queues to work on")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = command(func(cmd *cobra.Command, args []string) error {
		out := cmd.OutOrStdout()
		if api {
			key := "hpk_" + rand.Text()
			sum := sha256.Sum256([]byte(key))
			hash := "sha256:" + hex.EncodeToString(sum[:])
			if asJSON {
				return json.NewEncoder(out).Encode(map[string]string{"key": key, "hash": hash})
			}
			_, err := fmt.Fprintf(out, "key   %s\nhash  %s\n", key, hash)
			return err
		}
		secret := os.Getenv(jwtSecretVariable)
		if secret == "" {
			return &exitError{exitConfig, fmt.Errorf("%s is not set", jwtSecretVariable), "it is the secret that the server has, of 32 bytes or more"}
		}
		if expires <= 0 {
			return usage("", "--expires %v is not above zero", expires)
		}
		if err := grants.Validate(); err != nil {
			return usage("", "%w", err)
		}
		now := time.Now()
		said := jwt.MapClaims{"sub": args[0], "iat": now.Unix(), "exp": now.Add(expires).Unix(), "jti": rand.Text()}
		if grants.Join != nil || grants.Send != nil || grants.Subscribe != nil || grants.Publish != nil || grants.Work != nil {
			said["holdpost"] = grants
		}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, said).SignedString([]byte(secret))
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(out).Encode(map[string]any{"token": token, "expiresAt": now.Add(expires).UTC().Truncate(time.Second)})
		}
		_, err = fmt.Fprintln(out, token)
		return err
	})
	return cmd
}

func newTokenCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell whether a server with this configuration takes a token, and for whom",
		Long: `Read a token from standard input, and tell whether a server with this configuration takes it, for
whom and until when. A token on the command line would be seen by others.`,
		Example: "  holdpost token check --config /etc/holdpost.yaml < token",
		Args:    positional(false),
	}
	file := configFlag(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = command(func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfig(cmd, *file)
		if err != nil {
			return err
		}
		if !authConfigured(c) {
			return &exitError{exitConfig, errors.New("no keys are configured"), "give --config FILE, or set " + jwtSecretVariable}
		}
		rules, err := authConfig(c, fetcher(allowed(c)))
		if err != nil {
			return err
		}
		authority, err := auth.New(rules)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxInput))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		client, err := authority.Client(cmd.Context(), strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"identity": client.Identity, "expiresAt": client.Expires.UTC()})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, until %s\n", printable(client.Identity), client.Expires.UTC().Format(time.RFC3339))
		return err
	})
	return cmd
}
