package api

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// listener closes, together with itself, the connections on which nothing has been said yet. Browsers and clients open some ahead of
// need; the framework takes them for requests that are under way, and a shutdown would wait for them until their read limit.
type listener struct {
	net.Listener
	mu     sync.Mutex
	silent map[*conn]struct{}
	closed bool
}

func newListener(l net.Listener) *listener {
	return &listener{Listener: l, silent: map[*conn]struct{}{}}
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed { // accepted in the moment of closing
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	l.silent[c] = struct{}{}
	return c, nil
}

func (l *listener) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.silent {
		_ = c.Conn.Close()
	}
	clear(l.silent)
	return err
}

func (l *listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.silent, c)
}

// conn tells its listener when the first byte has come.
type conn struct {
	net.Conn
	listener *listener
	heard    atomic.Bool
	refused  atomic.Bool // a body that was too large: its rest is still coming
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.heard.Swap(true) {
		c.listener.forget(c)
	}
	return n, err
}

func (c *conn) Close() error {
	c.listener.forget(c)
	if c.refused.Load() {
		c.hearOut()
	}
	return c.Conn.Close()
}

const (
	hearOutFor  = time.Second
	hearOutUpTo = 1 << 20 // bytes
)

// hearOut takes in some of what a client is still sending. Closing with unread bytes would make the network throw away our answer, and the
// client would see a broken connection instead of the reason.
func (c *conn) hearOut() {
	if tcp, ok := c.Conn.(*net.TCPConn); !ok || tcp.CloseWrite() != nil {
		return
	}
	if c.Conn.SetReadDeadline(time.Now().Add(hearOutFor)) == nil { //nolint:forbidigo // a deadline of the network
		_, _ = io.Copy(io.Discard, io.LimitReader(c.Conn, hearOutUpTo))
	}
}
