package webhook

import (
	"errors"
	"net"
	"syscall"
)

var errClosedIdle = errors.New("the other side has closed this connection")

// watched is a connection that looks, before it writes, whether the other side has closed it. Then nothing is written, and net/http takes
// another connection; once a byte is on its way nobody could tell whether the request was seen.
type watched struct {
	net.Conn
	raw syscall.RawConn
}

func watch(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	return &watched{Conn: conn, raw: raw}
}

func (w *watched) Write(b []byte) (int, error) {
	if w.closed() {
		return 0, errClosedIdle
	}
	return w.Conn.Write(b)
}

// closed reports whether the end of what the other side sends is next to be read. It takes nothing away from whoever reads.
func (w *watched) closed() (ended bool) {
	var next [1]byte
	err := w.raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), next[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT) //nolint:gosec // a descriptor
		ended = n == 0 && err == nil
	})
	return err == nil && ended
}
