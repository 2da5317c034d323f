package fake

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"

	"github.com/valyala/fasthttp"
)

// ServeEcho is an agent that costs as little as possible: it answers every call with its input, records nothing, and says where it
// listens. Its function "later" accepts every call and never reports. It runs until ctx ends.
func ServeEcho(ctx context.Context, out io.Writer) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start the echo agent: %w", err)
	}
	server := &fasthttp.Server{Handler: echoFast, NoDefaultServerHeader: true, NoDefaultDate: true, MaxRequestBodySize: 16 << 20}
	_, _ = fmt.Fprintf(out, "listening on http://%s\n", listener.Addr())
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func echoFast(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("application/json")
	if bytes.HasSuffix(ctx.Path(), []byte("/later")) {
		ctx.SetStatusCode(fasthttp.StatusAccepted)
	}
	if ctx.IsPost() {
		ctx.SetBody(ctx.PostBody())
		return
	}
	ctx.SetBodyString(`{"status":"running"}`)
}
