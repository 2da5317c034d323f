package webhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers every question for an IPv4 address with the next of its addresses, the last one for ever.
type nameServer struct {
	*net.Resolver
	addresses []netip.Addr
	asked     atomic.Int64
}

func startNameServer(t *testing.T, addresses ...string) *nameServer {
	t.Helper()
	s := &nameServer{}
	for _, a := range addresses {
		s.addresses = append(s.addresses, netip.MustParseAddr(a))
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		packet := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			if answer, err := s.answer(packet[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	s.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	return s
}

func (s *nameServer) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.Additionals = true, nil
	question := m.Questions[0]
	if question.Type == dnsmessage.TypeA {
		i := min(int(s.asked.Add(1)), len(s.addresses)) - 1
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: question.Class},
			Body:   &dnsmessage.AResource{A: s.addresses[i].As4()},
		}}
	}
	return m.Pack()
}

// listener counts who connects to this machine, on IPv4 and, where there is one, IPv6.
func listener(t *testing.T) (port string, accepted *atomic.Int64) {
	t.Helper()
	accepted = &atomic.Int64{}
	accept := func(l net.Listener) {
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				accepted.Add(1)
				_ = conn.Close()
			}
		}()
	}
	four, err := net.Listen("tcp4", "0.0.0.0:0") //nolint:gosec // every address of this machine is the point
	if err != nil {
		t.Fatal(err)
	}
	accept(four)
	port = strconv.Itoa(four.Addr().(*net.TCPAddr).Port)
	if six, err := net.Listen("tcp6", "[::]:"+port); err == nil {
		accept(six)
	}
	return port, accepted
}

// forbidden are ways to write an address that a webhook may not reach. PORT is where a listener waits on this machine.
var forbidden = []string{
	// loopback, in every notation
	"http://127.0.0.1:PORT/", "http://127.0.0.2:PORT/", "http://127.255.255.254:PORT/", "http://127.1:PORT/", "http://127.0.1:PORT/",
	"http://2130706433:PORT/", "http://0x7f000001:PORT/", "http://0x7F.1:PORT/", "http://0177.0.0.1:PORT/", "http://017700000001:PORT/",
	"http://0x7f.0x0.0x0.0x1:PORT/", "http://00000177.00.00.01:PORT/", "http://127.0.0.1.:PORT/", "http://[::1]:PORT/",
	"http://[0:0:0:0:0:0:0:1]:PORT/", "http://[0000:0000:0000:0000:0000:0000:0000:0001]:PORT/", "http://[::ffff:127.0.0.1]:PORT/",
	"http://[::ffff:7f00:1]:PORT/", "http://[0:0:0:0:0:ffff:127.0.0.1]:PORT/", "http://[::127.0.0.1]:PORT/", "http://[::7f00:1]:PORT/",
	"http://localhost:PORT/", "http://LOCALHOST:PORT/", "http://localhost.:PORT/", "http://a.localhost:PORT/", "http://ｌocalhost:PORT/",
	"http://１２７.０.０.１:PORT/", "http://127。0。0。1:PORT/", "http://①②⑦.0.0.①:PORT/",
	// unspecified
	"http://0.0.0.0:PORT/", "http://0:PORT/", "http://0.0.0.1:PORT/", "http://[::]:PORT/", "http://0x0:PORT/", "http://[::ffff:0.0.0.0]:PORT/",
	// private, shared and reserved
	"http://10.0.0.1/", "http://10.255.255.255/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/", "http://100.64.0.1/",
	"http://192.0.0.1/", "http://198.18.0.1/", "http://192.0.2.1/", "http://203.0.113.1/", "http://240.0.0.1/", "http://255.255.255.255/",
	"http://224.0.0.1/", "http://0xa000001/", "http://167772161/", "http://012.0.0.1/", "http://[fc00::1]/", "http://[fd12:3456::1]/",
	"http://[ff02::1]/", "http://[fec0::1]/", "http://[2001:db8::1]/", "http://[::ffff:10.0.0.1]/", "http://[100::1]/",
	// link-local and metadata
	"http://169.254.169.254/latest/meta-data/", "http://169.254.0.1/", "http://2852039166/", "http://0xa9fea9fe/", "http://[fe80::1]/",
	"http://[fe80::1%25lo]:PORT/", "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/", "http://[fd20:ce::254]/",
	"http://100.100.100.200/", "http://168.63.129.16/", "http://192.0.0.192/",
	// translated
	"http://[64:ff9b::7f00:1]:PORT/", "http://[64:ff9b::169.254.169.254]/", "http://[64:ff9b:1::7f00:1]:PORT/", "http://[2002:7f00:1::]:PORT/",
	"http://[2002:a9fe:a9fe::]/", "http://[2001:0:7f00:1::]:PORT/",
	// ports of other protocols
	"http://93.184.215.14:22/", "http://93.184.215.14:25/", "https://93.184.215.14:111/",
	// users, fragments, schemes, nonsense
	"http://public.example@127.0.0.1:PORT/", "http://user:password@public.example/", "http://127.0.0.1:PORT#@public.example/",
	"http://public.example/#fragment", "ftp://public.example/", "file:///etc/passwd", "gopher://127.0.0.1:PORT/", "unix:///run/docker.sock",
	"javascript:alert(1)", "//127.0.0.1:PORT/", "http:127.0.0.1:PORT", "http:///path", "http://:PORT/", "http://./", "", "127.0.0.1",
	"http://%31%32%37.0.0.1:PORT/", "http://public.example\\@127.0.0.1:PORT/", "http://127.0.0.1\t:PORT/", "http://public.example:0/",
	"http://public.example:99999/", "http://[::1:PORT/", "http://127.0.0.1:PORT\r\nHost: x/", "http://256.256.256.256/", "http://1.2.3.4.5/",
}

func TestForbiddenAddressesAreRefusedEarly(t *testing.T) {
	port, _ := listener(t)
	policy := ForWebhooks(AllowList{}, time.Second)
	if len(forbidden) < 60 {
		t.Fatalf("only %d URLs", len(forbidden))
	}
	for _, raw := range forbidden {
		err := CheckURL(policy, strings.ReplaceAll(raw, "PORT", port))
		if !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// TestForbiddenAddressesAreNeverDialled sends past the early check, with a name server that says 127.0.0.1 to every name.
func TestForbiddenAddressesAreNeverDialled(t *testing.T) {
	port, accepted := listener(t)
	names := startNameServer(t, "127.0.0.1")
	policy := ForWebhooks(AllowList{}, 5*time.Second)
	policy.Resolver = names.Resolver
	client := NewClient(policy)
	urls := append([]string{
		"http://rebind.example:PORT/", "http://public.example.:PORT/", "http://127.0.0.1.nip.example:PORT/", "http://münchen.example:PORT/",
		"https://rebind.example:PORT/",
	}, forbidden...)
	blocked := 0
	for _, raw := range urls {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, strings.ReplaceAll(raw, "PORT", port), strings.NewReader("{}"))
		if err != nil {
			continue // not even a URL
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%q was answered", raw)
			continue
		}
		switch class := classify(err); class {
		case classBlocked:
			blocked++
		case classDNS, classConnection: // no name, no host, no such scheme
		default:
			t.Errorf("%q: %s: %v", raw, class, err)
		}
	}
	if n := accepted.Load(); n != 0 {
		t.Errorf("%d connections reached this machine", n)
	}
	if blocked < 60 {
		t.Errorf("only %d were blocked at the dial", blocked)
	}
	if names.asked.Load() == 0 {
		t.Error("no name was resolved")
	}
}

// TestRebindingIsSeenAtTheDial: a name that is fine at one moment leads inside at the next.
func TestRebindingIsSeenAtTheDial(t *testing.T) {
	port, accepted := listener(t)
	names := startNameServer(t, "93.184.215.14", "127.0.0.1")
	policy := ForWebhooks(AllowList{}, 5*time.Second)
	policy.Resolver = names.Resolver
	if addresses, err := names.LookupNetIP(t.Context(), "ip4", "rebind.example"); err != nil || addresses[0].IsLoopback() {
		t.Fatalf("the first look: %v, %v", addresses, err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://rebind.example:"+port+"/", nil)
	_, err := NewClient(policy).Do(req) //nolint:bodyclose // there is none
	if !errors.Is(err, ErrBlocked) || accepted.Load() != 0 {
		t.Errorf("%v, %d connections", err, accepted.Load())
	}
}

func TestGoodURLsPass(t *testing.T) {
	policy := ForWebhooks(AllowList{}, time.Second)
	for _, raw := range []string{
		"https://your-app.com/api/webhooks/agentfield", "http://example.com", "https://example.com:8443/a?b=c", "https://xn--mnchen-3ya.example/",
		"https://münchen.example/", "https://8.8.8.8/", "https://[2606:4700:4700::1111]/", "http://my_service.example/", "https://EXAMPLE.com./x",
	} {
		if err := CheckURL(policy, raw); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
	if err := CheckURL(policy, "https://example.com/"+strings.Repeat("a", maxURL)); !errors.Is(err, ErrAddress) {
		t.Errorf("an endless URL: %v", err)
	}
}

func TestAllowListOpensWhatItNames(t *testing.T) {
	allow, err := ParseAllowList([]string{
		"localhost:9000", "*.internal.example", "hooks.example", "10.0.0.0/8", "192.168.1.5:8080", "[fd00::1]:8080", "169.254.10.10", "::1", "",
		"93.184.215.14:25", "0.0.0.0/0",
	})
	if err != nil {
		t.Fatal(err)
	}
	policy := ForWebhooks(allow, time.Second)
	for raw, want := range map[string]bool{
		"http://localhost:9000/": true, "http://localhost:9001/": true, // ::1 is listed, and 127.0.0.1 lies in 0.0.0.0/0
		"http://a.internal.example:25/": true, "http://a.b.internal.example/": true, "http://internal.example:25/": false,
		"http://hooks.example:22/": true, "http://10.1.2.3:22/": true, "http://192.168.1.5:8080/": true, "http://[fd00::1]:8080/": true,
		"http://[fd00::1]:8081/": false, "http://[fd00::2]:8080/": false, "http://169.254.10.10/": true, "http://169.254.169.254/": false,
		"http://0.0.0.0/": false, "http://[::1]:1/": true, "http://93.184.215.14:25/": true,
	} {
		if err := CheckURL(policy, raw); (err == nil) != want {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, entry := range []string{"http://host", "host:0", "host:x", "a b", "*", "*.*.example", "10.0.0.0/33", "user@host"} {
		if _, err := ParseAllowList([]string{entry}); !errors.Is(err, ErrAllowList) {
			t.Errorf("entry %q: %v", entry, err)
		}
	}
}

// TestListedNameMayBePrivateButNotMetadata: a name on the list is trusted with private addresses, not with link-local ones.
func TestListedNameMayBePrivateButNotMetadata(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	allow, _ := ParseAllowList([]string{"hooks.example"})
	for address, reached := range map[string]bool{"127.0.0.1": true, "169.254.169.254": false} {
		policy := ForWebhooks(allow, 5*time.Second)
		policy.Resolver = startNameServer(t, address).Resolver
		client := NewClient(policy)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://hooks.example:"+port+"/", nil)
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if reached != (err == nil) || (!reached && !errors.Is(err, ErrBlocked)) {
			t.Errorf("%s: %v", address, err)
		}
		client.CloseIdleConnections()
	}
}

func TestNodesMayBePrivateButNotMetadata(t *testing.T) {
	policy := ForNodes(AllowList{}, 0)
	for raw, want := range map[string]bool{
		"http://localhost:8001": true, "http://127.0.0.1:80": true, "http://10.0.0.1:22": true, "http://my_agent:8001": true, "http://[::1]:8001": true,
		"http://192.168.0.7:8001": true, "http://100.64.1.1:8001": true, "http://[fd12::1]:8001": true, "https://agent.example": true,
		"http://[::ffff:10.0.0.1]:80": true,
		"http://169.254.169.254":      false, "http://[fe80::1]": false, "http://[fd00:ec2::254]": false, "http://100.100.100.200": false, "http://0.0.0.0:8001": false,
		"http://[::]:8001": false, "http://224.0.0.1": false, "http://[ff02::1]": false, "http://[::ffff:169.254.169.254]": false,
		"http://[64:ff9b::a9fe:a9fe]": false, "http://[2002:a9fe:a9fe::]": false, "http://2852039166": false, "http://240.0.0.1": false, "ws://10.0.0.1": false,
	} {
		if err := CheckURL(policy, raw); (err == nil) != want {
			t.Errorf("%s: %v", raw, err)
		}
	}
	policy.Resolver = startNameServer(t, "169.254.169.254").Resolver
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://metadata.example/", nil)
	if _, err := NewClient(policy).Do(req); !errors.Is(err, ErrBlocked) { //nolint:bodyclose // there is none
		t.Errorf("a name that leads to the metadata service: %v", err)
	}
}

func TestClientFollowsNoRedirectAndBoundsTheAnswer(t *testing.T) {
	var followed atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/target", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/target", func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20)) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // would fail if it were used
	client := NewClient(ForNodes(AllowList{}, 64<<10))
	get := func(path string) *http.Response {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	if resp := get("/away"); resp.StatusCode != http.StatusTemporaryRedirect || followed.Load() != 0 {
		t.Errorf("status %d, target seen %d times", resp.StatusCode, followed.Load())
	}
	var tooLarge *http.MaxBytesError
	if n, err := io.Copy(io.Discard, get("/large").Body); !errors.As(err, &tooLarge) || n > 64<<10 {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if transport, ok := client.Transport.(bounded); !ok || transport.Proxy != nil {
		t.Error("the client would use a proxy")
	}
}

func TestFailuresHaveAClass(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	hold := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { <-hold })
	mux.HandleFunc("/drop", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	plain := httptest.NewServer(mux)
	t.Cleanup(plain.Close)
	t.Cleanup(func() { close(hold) })
	secure := httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	allow, _ := ParseAllowList([]string{"127.0.0.1"})
	policy := ForWebhooks(allow, 30*time.Second)
	policy.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no name server") }}
	client := NewClient(policy)
	policy.Timeout = 50 * time.Millisecond
	hasty := NewClient(policy)
	for raw, want := range map[string]string{
		"http://" + closed.Addr().String(): classRefused, plain.URL + "/hang": classTimeout, plain.URL + "/drop": classConnection, secure.URL: classTLS,
		"https://" + strings.TrimPrefix(plain.URL, "http://"): classTLS, "http://nowhere.example": classDNS, "http://10.0.0.1": classBlocked,
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, raw, nil)
		used := client
		if want == classTimeout {
			used = hasty
		}
		_, err := used.Do(req) //nolint:bodyclose // there is none
		if got := classify(err); got != want {
			t.Errorf("%s: %s (%v), want %s", raw, got, err, want)
		}
		if text := explain(want, err); want == classBlocked && strings.Contains(text, "10.0.0.1") {
			t.Errorf("the record names an inside address: %s", text)
		}
	}
}

// A server that hangs up on idle connections does so at any time. What is sent then goes over another one, and nobody gets it twice.
func TestARequestIsNotSentOverAConnectionThatWasClosed(t *testing.T) {
	var seen atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(server.Close)
	client := NewClient(ForNodes(AllowList{}, 0))
	for n := range 200 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("again"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(req)
		if err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		server.CloseClientConnections()
	}
	if seen.Load() != 200 {
		t.Errorf("200 requests were seen %d times", seen.Load())
	}
}
