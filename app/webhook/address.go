package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// ErrAddress is what CheckURL's errors wrap; their text is a sentence for whoever gave the address.
var ErrAddress = errors.New("the address cannot be used")

type addressError string

func (e addressError) Error() string     { return string(e) }
func (e addressError) Unwrap() error     { return ErrAddress }
func refuse(f string, args ...any) error { return addressError(fmt.Sprintf(f, args...)) }

const maxURL = 2048

// CheckURL tells early what the dialer would refuse later: wrong schemes, missing hosts, credentials in the URL, and addresses written
// as numbers that the policy does not allow. It does not resolve names; those are judged at each dial.
func CheckURL(policy Policy, rawURL string) error {
	if len(rawURL) > maxURL {
		return refuse("the URL is longer than %d bytes", maxURL)
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return refuse("the URL cannot be read")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("the URL must begin with http:// or https://")
	case u.Host == "" || u.Hostname() == "":
		return refuse("the URL names no host")
	case u.User != nil:
		return refuse("the URL must not contain a user name or password")
	case u.Fragment != "" || strings.Contains(rawURL, "#"):
		return refuse("the URL must not contain a fragment")
	}
	port, err := urlPort(u)
	if err != nil {
		return err
	}
	host, err := normalHost(u.Hostname())
	if err != nil || host == "" {
		return refuse("the host of the URL is not a valid name")
	}
	return policy.checkHost(host, port)
}

func urlPort(u *url.URL) (uint16, error) {
	text := u.Port()
	if text == "" {
		if u.Scheme == "https" {
			return 443, nil
		}
		return 80, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, refuse("the port of the URL must be a number from 1 to 65535")
	}
	return uint16(port), nil
}

// checkHost judges a host as it is written: an address at once, a name only by what it says.
func (p Policy) checkHost(host string, port uint16) error {
	if p.Allow.name(host, port) {
		return nil
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if p.checkAddress(netip.AddrPortFrom(addr, port)) != nil {
			return refuse("%s may not be reached from this server", host)
		}
		return nil
	}
	if numeric(host) {
		return refuse("write the address %s in its usual form, four decimal numbers", host)
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		if !p.Private && !p.Allow.address(netip.MustParseAddr("127.0.0.1"), port) && !p.Allow.address(netip.IPv6Loopback(), port) {
			return refuse("%s may not be reached from this server", host)
		}
	}
	if !p.admitsPort(port) {
		return refuse("port %d may not be reached from this server: use 80, 443 or one from 1024 on", port)
	}
	return nil
}

// normalHost is the form in which hosts are compared, and the one that the HTTP client resolves: lower case, punycode, without the
// final dot. Wide digits and the like thereby become the address they stand for.
func normalHost(host string) (string, error) {
	if !ascii(host) {
		var err error
		if host, err = idna.Lookup.ToASCII(host); err != nil {
			return "", fmt.Errorf("convert the host name: %w", err)
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")), nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// numeric reports whether some resolver may read the host as an IPv4 address although it is not written as one: 127.1, 0x7f000001,
// 017700000001, 2130706433. No top-level domain is a number.
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return false
	}
	if rest, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}
