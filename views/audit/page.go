// Package audit is the page that shows who did what.
package audit

import (
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/layout"
)

// Page is a part of the log, newest first.
type Page struct {
	Frame   layout.Page
	Filter  Filter
	Entries []models.AuditEntry
	Cursor  int64     // entries older than this one are shown; 0: the newest
	Next    int64     // cursor of the page of older ones; 0: there are none
	Problem string    // what is wrong with the filter, in a sentence
	Checked *Verified // what a verification found; nil: none was asked for
}

// Filter is what was chosen, as it was typed.
type Filter struct {
	Actor, Action, Object, Channel, Since string
}

// Verified is what a verification of the whole log found.
type Verified struct {
	OK      bool
	Entries int64
	Anchor  string // the newest entry with its hash, to note elsewhere
	BadID   int64
	Problem string
}

func (f Filter) values() url.Values {
	v := url.Values{}
	for _, term := range []struct{ key, value string }{
		{"actor", f.Actor}, {"action", f.Action}, {"object", f.Object}, {"channel", f.Channel}, {"since", f.Since},
	} {
		if term.value != "" {
			v.Set(term.key, term.value)
		}
	}
	return v
}

func address(path string, v url.Values) string {
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

func (p Page) older() string {
	v := p.Filter.values()
	v.Set("cursor", strconv.FormatInt(p.Next, 10))
	return address("/audit", v)
}

func (p Page) newest() string { return address("/audit", p.Filter.values()) }

func (p Page) export(format string) string { return address("/audit."+format, p.Filter.values()) }

func (p Page) verify() string {
	v := p.Filter.values()
	v.Set("verify", "1")
	return address("/audit", v)
}

type option struct{ value, label string }

func channels() []option {
	return []option{{"", "any"}, {"ui", "pages"}, {"api", "API"}, {"cli", "command line"}, {"server", "server"}}
}

func spans() []option {
	return []option{{"", "any time"}, {"1h", "last hour"}, {"24h", "last 24 hours"}, {"7d", "last 7 days"}, {"30d", "last 30 days"}}
}

// phrase is an action in words: user.role_changed is "user role changed".
func phrase(action string) string { return strings.NewReplacer(".", " ", "_", " ").Replace(action) }

func hexOf(hash []byte) string { return hex.EncodeToString(hash) }

func counted(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return strconv.Itoa(n) + " entries"
}
