// Command bench drives Holdpost and the npm socket.io server side by side and prints what each costs: processor time per
// message, per delivery and per handshake, memory per idle connection, and the ratios. README.md says how it measures.
//
//	go run ./bench                     all scenarios, both peers, under four minutes
//	go run ./bench -quick              a first look
//	go run ./bench -scenarios emit1,emit8 -passes 8
//
// Each measurement starts its peer as a child process of its own. The peers take turns within a pass, and the order is
// turned round from one pass to the next, so that a machine that grows warm or busy does not favour one of them.
package main
