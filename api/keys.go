package api

import (
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/settings"
)

// keyPages: people make keys for themselves on the pages; what they may make, the service decides.
func (s *Server) keyPages() []Route { return s.keyRoutes(access.Read) }

// keyAPI: by the API an admin makes keys. No other key can make one, so that who steals one cannot keep the access.
func (s *Server) keyAPI() []Route { return s.keyRoutes(access.Admin) }

func (s *Server) keyRoutes(scope access.Scope) []Route {
	return []Route{
		{"GET", "/settings/api-keys", scope, s.listKeys},
		{"POST", "/settings/api-keys", scope, s.createKey},
		{"POST", "/settings/api-keys/:key/revoke", scope, s.revokeKey},
	}
}

// keyJSON is a key on the wire; the secret is in the answer that made it, and nowhere else.
type keyJSON struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Prefix     string   `json:"prefix"`
	Scopes     []string `json:"scopes"`
	User       *string  `json:"user"`
	CreatedBy  string   `json:"created_by"`
	CreatedAt  string   `json:"created_at"`
	ExpiresAt  *string  `json:"expires_at"`
	LastUsedAt *string  `json:"last_used_at"`
	RevokedAt  *string  `json:"revoked_at"`
	Key        string   `json:"key,omitempty"`
}

func asKeyJSON(k models.APIKey, secret string) keyJSON {
	return keyJSON{
		ID: k.ID, Name: k.Name, Prefix: "af_" + k.ID + "_", Scopes: strings.Fields(k.Scopes), User: k.UserName, CreatedBy: k.CreatedBy,
		CreatedAt: formatMs(k.CreatedAt), ExpiresAt: maybeMs(k.ExpiresAt), LastUsedAt: maybeMs(k.LastUsedAt), RevokedAt: maybeMs(k.RevokedAt), Key: secret,
	}
}

func (s *Server) listKeys(c *fiber.Ctx) error {
	if !wantsJSON(c) {
		return s.showKeys(c, fiber.StatusOK, settings.KeysPage{Form: settings.KeyForm{Expires: "90", Scopes: []string{string(access.Read)}}})
	}
	keys, err := s.Access.Keys(c.UserContext(), principal(c))
	if err != nil {
		return err
	}
	list := make([]keyJSON, len(keys))
	for i, k := range keys {
		list[i] = asKeyJSON(k, "")
	}
	return c.JSON(fiber.Map{"keys": list})
}

func (s *Server) showKeys(c *fiber.Ctx, status int, p settings.KeysPage) error {
	who := principal(c)
	keys, err := s.Access.Keys(c.UserContext(), who)
	if err != nil {
		return err
	}
	p.Frame, p.Keys = s.settingsFrame(c, "API keys"), keys
	p.Services, p.Personal = who.Can(access.Admin), who.Person()
	p.Scopes = scopeWords(who, p.Services)
	return page(c, status, settings.Keys(p))
}

// scopeWords are the scopes that somebody may give to a key.
func scopeWords(who access.Principal, services bool) []settings.Words {
	var words []settings.Words
	for _, w := range []settings.Words{
		{Value: string(access.Read), Label: "see executions, nodes and results"},
		{Value: string(access.Execute), Label: "start and cancel executions"},
		{Value: string(access.Approve), Label: "decide what waits for a person"},
		{Value: string(access.Operate), Label: "look after executions, nodes and webhooks"},
		{Value: string(access.Admin), Label: "look after users, keys and the audit log"},
		{Value: string(access.Agent), Label: "register as an agent and report; never together with approve, operate or admin"},
	} {
		if scope := access.Scope(w.Value); who.Can(scope) || services && scope == access.Agent {
			words = append(words, w)
		}
	}
	return words
}

func (s *Server) createKey(c *fiber.Ctx) error {
	k, form, err := readNewKey(c)
	if err != nil {
		return err
	}
	secret, row, err := s.Access.CreateKey(c.UserContext(), principal(c), origin(c), k)
	if wantsJSON(c) {
		if err != nil {
			return err
		}
		return c.Status(fiber.StatusCreated).JSON(asKeyJSON(row, secret))
	}
	if problem := s.refusal(c, err); problem != "" {
		return s.showKeys(c, c.Response().StatusCode(), settings.KeysPage{Form: form, Problem: problem})
	}
	if err != nil {
		return err
	}
	return s.showKeys(c, fiber.StatusCreated, settings.KeysPage{
		Made: &settings.Made{Key: row, Secret: secret}, Form: settings.KeyForm{Expires: "90", Scopes: []string{string(access.Read)}},
	})
}

const day = 24 * time.Hour

func readNewKey(c *fiber.Ctx) (access.NewKey, settings.KeyForm, error) {
	if wantsJSON(c) {
		var r struct {
			Name     string   `json:"name"`
			Scopes   []string `json:"scopes"`
			Personal bool     `json:"personal"`
			Seconds  int64    `json:"expires_in_seconds"`
		}
		err := bind(c, &r, false)
		if r.Seconds < 0 || r.Seconds > int64(100*366*day/time.Second) {
			err = access.ErrBadExpiry
		}
		return access.NewKey{Name: r.Name, Scopes: asScopes(r.Scopes), Personal: r.Personal, ExpiresIn: time.Duration(r.Seconds) * time.Second}, settings.KeyForm{}, err
	}
	form := settings.KeyForm{Name: typed(c.FormValue("name")), For: c.FormValue("for"), Expires: c.FormValue("expires_in_days")}
	for _, scope := range c.Context().PostArgs().PeekMulti("scopes") {
		form.Scopes = append(form.Scopes, string(scope))
	}
	k := access.NewKey{Name: c.FormValue("name"), Scopes: asScopes(form.Scopes), Personal: form.For != "service"}
	if form.Expires != "" {
		days, err := strconv.Atoi(form.Expires)
		if err != nil || days < 1 || days > 3660 {
			return k, form, access.ErrBadExpiry
		}
		k.ExpiresIn = time.Duration(days) * day
	}
	return k, form, nil
}

func asScopes(words []string) []access.Scope {
	scopes := make([]access.Scope, len(words))
	for i, w := range words {
		scopes[i] = access.Scope(w)
	}
	return scopes
}

func (s *Server) revokeKey(c *fiber.Ctx) error {
	k, err := s.Access.RevokeKey(c.UserContext(), principal(c), origin(c), c.Params("key"))
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return seeOther(c, "/settings/api-keys")
	}
	return c.JSON(asKeyJSON(k, ""))
}
