package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// ErrBlocked is returned by a client whose policy refuses the destination. No connection was attempted.
var ErrBlocked = errors.New("the address may not be reached from this server")

// Policy says where a client may connect to and how long it may take.
//
// Ports: 80, 443 and everything from 1024 on; receivers do listen on 8443 or 3000, while the ports below belong to other protocols
// (ssh, mail, …). An entry of the allow-list opens any port.
type Policy struct {
	// Private admits loopback, private and carrier-grade NAT addresses, where agents usually are, and any port. Link-local and
	// metadata addresses, multicast and reserved ranges stay refused.
	Private bool
	Allow   AllowList

	Timeout          time.Duration // of a whole call, reading the answer included; 0: none, the context decides
	MaxResponseBytes int64         // reading more of a body fails with *http.MaxBytesError; 0: no limit
	Resolver         *net.Resolver // nil: the system's
}

// ForWebhooks lets only public addresses through, besides the listed ones.
func ForWebhooks(allow AllowList, timeout time.Duration) Policy {
	return Policy{Allow: allow, Timeout: timeout}
}

// ForNodes is the policy of calls to agents: private addresses are normal, and a call may last as long as its own limit says.
func ForNodes(allow AllowList, maxResponseBytes int64) Policy {
	return Policy{Private: true, Allow: allow, MaxResponseBytes: maxResponseBytes}
}

const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	maxHeaderBytes   = 64 << 10
)

// NewClient returns the guarded client: the address is judged after resolution, at every dial, so that no name can lead elsewhere
// between check and use. It follows no redirect (the 3xx is the answer) and takes no proxy from the environment.
func NewClient(policy Policy) *http.Client {
	transport := &http.Transport{
		DialContext:            policy.dial,
		MaxIdleConns:           4096,
		MaxIdleConnsPerHost:    128,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    handshakeTimeout,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
	return &http.Client{
		Transport:     bounded{Transport: transport, limit: policy.MaxResponseBytes},
		Timeout:       policy.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded limits what can be read of an answer.
type bounded struct {
	*http.Transport
	limit int64
}

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(req)
	if err != nil && closedBefore(err) && req.GetBody != nil {
		again := req.Clone(req.Context())
		if again.Body, err = req.GetBody(); err == nil {
			resp, err = b.Transport.RoundTrip(again)
		}
	}
	if err == nil && b.limit > 0 {
		resp.Body = http.MaxBytesReader(nil, resp.Body, b.limit)
	}
	return resp, err
}

// closedBefore: net/http found that the other side had closed the connection before the request was on its way. It says so by this error and
// no other, has no name for it, and repeats the request by itself only when that may be done after it was seen, too.
func closedBefore(err error) bool {
	return strings.HasSuffix(err.Error(), "server closed idle connection")
}

func (p Policy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("read the destination: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read the destination: %w", err)
	}
	host, err = normalHost(host)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Resolver: p.Resolver, Control: p.guard(host, uint16(port))}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return watch(conn), nil
}

// guard runs between resolution and connect. The host matters only for names that the operator has listed.
func (p Policy) guard(host string, port uint16) func(network, address string, _ syscall.RawConn) error {
	listed := p.Allow.name(host, port)
	return func(network, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || (network != "tcp4" && network != "tcp6") {
			return ErrBlocked
		}
		if listed && !delicate(to.Addr()) {
			return nil
		}
		return p.checkAddress(to)
	}
}

// checkAddress is the one judgement about an address, before and at the dial.
func (p Policy) checkAddress(to netip.AddrPort) error {
	addr := to.Addr().Unmap().WithZone("")
	if p.Allow.address(addr, to.Port()) {
		return nil
	}
	if delicate(addr) {
		return ErrBlocked
	}
	rules := publicAddresses
	if p.Private {
		rules = publicAndPrivateAddresses
	}
	if rules.SafeAddr(addr) != nil || !p.admitsPort(to.Port()) {
		return ErrBlocked
	}
	return nil
}

func (p Policy) admitsPort(port uint16) bool {
	return p.Private || port == 80 || port == 443 || port >= 1024
}

// publicAddresses follows the IANA registries of special addresses; ports are judged by admitsPort.
var (
	publicAddresses           = ssrf.New()
	publicAndPrivateAddresses = ssrf.New(
		ssrf.WithAllowedV4Prefixes(prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "100.64.0.0/10")...),
		ssrf.WithAllowedV6Prefixes(prefixes("fc00::/7", "::1/128")...),
	)
)

// delicateRanges are addresses that mean "this machine's own network" or answer with credentials; only listing one of them by itself
// opens it.
var delicateRanges = prefixes(
	"0.0.0.0/8", "::/128", // unspecified: reaches the machine itself
	"169.254.0.0/16", "fe80::/10", // link-local, with the metadata services of most clouds
	"224.0.0.0/4", "ff00::/8", "255.255.255.255/32", // multicast and broadcast
	"fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", // metadata outside link-local
)

func delicate(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, prefix := range delicateRanges {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// readLimited reads at most n bytes of an answer; whatever comes after them is given up together with the connection.
func readLimited(body io.Reader, n int64) []byte {
	read, _ := io.ReadAll(io.LimitReader(body, n)) // the status has arrived; a body that breaks off does not change it
	return read
}
