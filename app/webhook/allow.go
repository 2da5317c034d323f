package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// ErrAllowList says that an entry of an allow-list cannot be understood.
var ErrAllowList = errors.New("an allow-list takes names, *.suffix, addresses and CIDRs, each of the first three with :port if wanted")

// AllowList names destinations that may be reached although the policy refuses them.
//
// A name admits every address it resolves to, except the link-local, metadata, multicast and unspecified ones: those have to be listed
// one by one, each as the address itself. A CIDR, however wide, does not admit them either.
type AllowList struct {
	names    []allowedName
	networks []allowedNetwork
}

type allowedName struct {
	name   string // in normal form
	suffix bool   // the names below it, not itself
	port   uint16 // 0: any
}

type allowedNetwork struct {
	prefix netip.Prefix
	port   uint16
}

// ParseAllowList reads entries such as hooks.example.com, *.example.com, 10.0.0.5, 10.0.0.0/8, [fd00::1]:8080 and localhost:9000.
func ParseAllowList(entries []string) (AllowList, error) {
	var list AllowList
	for _, entry := range entries {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if err := list.add(entry); err != nil {
			return AllowList{}, fmt.Errorf("%q: %w", entry, err)
		}
	}
	return list, nil
}

func (l *AllowList) add(entry string) error {
	if prefix, err := netip.ParsePrefix(entry); err == nil {
		l.networks = append(l.networks, allowedNetwork{prefix: prefix.Masked()})
		return nil
	}
	host, port, err := splitPort(entry)
	if err != nil {
		return err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap().WithZone("")
		l.networks = append(l.networks, allowedNetwork{prefix: netip.PrefixFrom(addr, addr.BitLen()), port: port})
		return nil
	}
	rest, suffix := strings.CutPrefix(host, "*.")
	name, err := normalHost(rest)
	if err != nil || name == "" || strings.ContainsAny(name, "*/:@ ") {
		return ErrAllowList
	}
	l.names = append(l.names, allowedName{name: name, suffix: suffix, port: port})
	return nil
}

func splitPort(entry string) (host string, port uint16, err error) {
	if _, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
		return strings.Trim(entry, "[]"), 0, nil
	}
	if !strings.Contains(entry, ":") {
		return entry, 0, nil
	}
	host, text, err := net.SplitHostPort(entry)
	if err != nil {
		return "", 0, ErrAllowList
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, ErrAllowList
	}
	return host, uint16(n), nil
}

// Lists reports whether the host of a URL is listed, by its name or by its address.
func (l *AllowList) Lists(u *url.URL) bool {
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		port = map[string]uint64{"http": 80, "https": 443}[u.Scheme]
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		return l.address(addr, uint16(port))
	}
	name, err := normalHost(u.Hostname())
	return err == nil && l.name(name, uint16(port))
}

// name reports whether the name, in normal form, is listed.
func (l *AllowList) name(name string, port uint16) bool {
	for _, n := range l.names {
		matches := n.name == name
		if n.suffix {
			matches = strings.HasSuffix(name, "."+n.name)
		}
		if matches && (n.port == 0 || n.port == port) {
			return true
		}
	}
	return false
}

// address reports whether the address is listed; delicate ones only count as listed by themselves.
func (l *AllowList) address(addr netip.Addr, port uint16) bool {
	addr = addr.Unmap().WithZone("")
	for _, n := range l.networks {
		if n.prefix.Contains(addr) && (n.port == 0 || n.port == port) && (n.prefix.IsSingleIP() || !delicate(addr)) {
			return true
		}
	}
	return false
}
