// Package asyncrpc speaks the protocol below BitBake's servers: lines of text
// over TCP, a Unix socket or a WebSocket, and JSON messages on them.
//
// A [Conn] gives and takes lines and messages. A [Server] accepts clients,
// does the handshake, and hands each message to a [Session]; the commands are
// the business of packages hashserv and prserv. A [Client] is the other side,
// for an upstream server, the command line and tests.
//
// # The protocol, from BitBake 1.46 to 2.19
//
// The client begins: "NAME MAJOR.MINOR", header lines, an empty line. Then it
// sends messages, each one JSON value on a line, and gets one for each. A message
// of 32,767 characters or more is cut: {"chunk-stream": null}, pieces of 32,767,
// an empty line; on a WebSocket, where a frame is a line, nothing is cut. A
// command whose name ends in "-stream" turns the connection to bare lines, one
// out for one in, until the line END. A server that refuses a command says
// {"invoke-error": {"message": ...}} and closes; anything it does not understand
// it closes without a word.
//
// # Promises
//
// Nothing that a client sends makes the server fail or others wait: lines,
// messages, the memory of all large messages together, connections and the time
// of a handshake or of a write have [Limits]. A message that we send holds ASCII
// only, and no piece of it ends in a blank (BitBake's reader strips them). The
// server listens from the moment that [Server.Listen] returns, and [Server.Serve]
// ends at once when its context does.
package asyncrpc
