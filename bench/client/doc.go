// Command client measures the Go client against bench/target, each in a process of its own: what an idle client weighs, what an
// event with an ack costs the client and the server, and how many clients that lost their server at once come back.
//
//	go run ./bench/client
package main
