package api

import (
	"net"
	"sync"
	"sync/atomic"
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
	return c.Conn.Close()
}
