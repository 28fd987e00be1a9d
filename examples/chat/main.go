// Command chat is a chat room: what one client says, all others hear. Run it with go run ./examples/chat, and as many
// clients beside it as you like: node chat.mjs NAME.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"

	"github.com/holdpost/holdpost"
)

type message struct {
	From string `json:"from"`
	Text string `json:"text"`
}

const say holdpost.Event[message] = "say"

func main() {
	address := flag.String("address", "127.0.0.1:3000", "where to listen")
	flag.Parse()

	srv := holdpost.NewServer(nil)
	holdpost.On(srv.Of("/"), say, func(ctx context.Context, s *holdpost.Socket, m message) error {
		return say.Emit(ctx, s.Broadcast(), m)
	})
	http.Handle("/socket.io/", srv)
	log.Fatal(http.ListenAndServe(*address, nil))
}
