// Package settings are the pages where people look after themselves, their keys and, as admins, each other.
package settings

import (
	"slices"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/layout"
)

// Words that a form shows; the server gives them, so that this package need not know which there are.
type Words struct{ Value, Label string }

// ProfilePage is /settings/profile.
type ProfilePage struct {
	Frame    layout.Page
	Person   *models.User // nil: nobody is signed in, because nobody has to
	Rights   []string     // what this visitor may do
	Sessions []Session
	Problem  string // why the password was not changed
	Done     string // what has just been done, in a sentence
}

// Session is one browser.
type Session struct {
	models.Session
	Current bool // the one that asks
}

// KeysPage is /settings/api-keys.
type KeysPage struct {
	Frame    layout.Page
	Keys     []models.APIKey
	Services bool    // this visitor may make keys for services
	Personal bool    // this visitor may make keys for themselves
	Scopes   []Words // that a form may choose
	Form     KeyForm
	Made     *Made // a key that was made just now: shown this once
	Problem  string
}

// KeyForm is what was typed.
type KeyForm struct {
	Name    string
	Scopes  []string
	For     string // "me" or "service"
	Expires string // in days; "" never
}

// Made is a new key with its secret.
type Made struct {
	Key    models.APIKey
	Secret string
}

// UsersPage is /settings/users.
type UsersPage struct {
	Frame   layout.Page
	Users   []models.User
	Roles   []Words
	Me      string // the name of this visitor: acts upon oneself end one's own session
	First   bool   // there are no users yet: the first must be an admin, and from then on everybody has to sign in
	Form    UserForm
	Problem string
	Done    string
}

// UserForm is what was typed; a password is never sent back.
type UserForm struct {
	Name, DisplayName, Role, Groups string
}

func (p KeysPage) now() time.Time    { return p.Frame.Now }
func (p UsersPage) now() time.Time   { return p.Frame.Now }
func (p ProfilePage) now() time.Time { return p.Frame.Now }

// ended says why a key does not work any more; "" while it does.
func ended(k *models.APIKey, now time.Time) string {
	switch {
	case k.RevokedAt != nil:
		return "revoked"
	case k.ExpiresAt != nil && now.UnixMilli() >= *k.ExpiresAt:
		return "expired"
	}
	return ""
}

// holder is for whom a key acts.
func holder(k *models.APIKey) string {
	if k.UserName != nil {
		return *k.UserName
	}
	return "a service"
}

func (f KeyForm) has(scope string) bool { return slices.Contains(f.Scopes, scope) }

func expiries() []Words {
	return []Words{{"7", "7 days"}, {"30", "30 days"}, {"90", "90 days"}, {"365", "1 year"}, {"", "Never"}}
}

func listed(words []string) string { return strings.Join(words, ", ") }

// browserOf is the part of what a browser calls itself that people recognise.
func browserOf(name string) string {
	for _, known := range []struct{ mark, label string }{
		{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"},
	} {
		if strings.Contains(name, known.mark) {
			return known.label + systemOf(name)
		}
	}
	if name == "" {
		return "Unknown browser"
	}
	return name
}

func systemOf(name string) string {
	for _, known := range []struct{ mark, label string }{
		{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Mac OS X", "macOS"}, {"Windows", "Windows"}, {"Linux", "Linux"},
	} {
		if strings.Contains(name, known.mark) {
			return " on " + known.label
		}
	}
	return ""
}
