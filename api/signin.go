package api

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/settings"
	"github.com/agentfield/agentfield/views/signin"
)

// signInRoutes are the pages by which people come, go and look after themselves.
func (s *Server) signInRoutes() []Route {
	return []Route{
		{"GET", "/sign-in", access.Public, s.signInPage},
		{"POST", "/sign-in", access.Public, s.signIn},
		{"POST", "/sign-in/first", access.Public, s.firstAdmin},
		{"POST", "/sign-out", access.Public, s.signOut},
		{"GET", "/settings", access.Read, func(c *fiber.Ctx) error { return seeOther(c, "/settings/profile") }},
		{"POST", "/settings/profile/password", access.Read, s.changePassword},
		{"POST", "/settings/profile/sign-out-everywhere", access.Read, s.signOutEverywhere},
	}
}

// whoRoutes tell people and programs who they are here.
func (s *Server) whoRoutes() []Route {
	return []Route{{"GET", "/settings/profile", access.Read, s.profile}}
}

// signInPage shows the form, unless there is nothing to sign in for.
func (s *Server) signInPage(c *fiber.Ctx) error {
	if _, err := s.recognise(c); err == nil {
		return seeOther(c, afterSignIn(c.Query("next", "/")))
	}
	return s.showSignIn(c, fiber.StatusOK, signin.Page{Next: afterSignIn(c.Query("next", "/")), First: !s.Access.Peopled(c.UserContext())})
}

func (s *Server) showSignIn(c *fiber.Ctx, status int, p signin.Page) error {
	title := "Sign in"
	if p.First {
		title = "Create the first admin"
	}
	p.Frame = layout.Page{Title: title, Theme: c.Cookies("theme"), Now: s.Now()}
	return page(c, status, signin.Show(p))
}

func (s *Server) signIn(c *fiber.Ctx) error {
	next, name := afterSignIn(c.FormValue("next", "/")), c.FormValue("name")
	token, _, err := s.Access.SignIn(c.UserContext(), origin(c), access.Attempt{
		Name: name, Password: c.FormValue("password"), Browser: c.Get(fiber.HeaderUserAgent), Previous: s.sessionCookie(c),
	})
	if err != nil {
		return s.signInFailed(c, err, signin.Page{Next: next, Name: typed(name)})
	}
	s.setSession(c, token)
	return seeOther(c, next)
}

// firstAdmin takes the token that was shown when the server started.
func (s *Server) firstAdmin(c *fiber.Ctx) error {
	next, token := afterSignIn(c.FormValue("next", "/")), c.FormValue("token")
	u := access.NewUser{Name: c.FormValue("name"), DisplayName: c.FormValue("display_name"), Password: c.FormValue("password")}
	session, _, err := s.Access.FirstAdmin(c.UserContext(), origin(c), token, u, c.Get(fiber.HeaderUserAgent))
	if err != nil {
		return s.signInFailed(c, err, signin.Page{First: true, Next: next, Name: typed(u.Name), Display: typed(u.DisplayName), Token: typed(token)})
	}
	s.setSession(c, session)
	return seeOther(c, next)
}

// typed is what a form gives back to be corrected.
func typed(text string) string {
	if len(text) > 200 || !utf8.ValidString(text) {
		return ""
	}
	return text
}

// signInFailed shows the form again with the reason. What is not the visitor's doing is an error page.
func (s *Server) signInFailed(c *fiber.Ctx, err error, p signin.Page) error {
	f := asFailure(err)
	status := f.status
	switch {
	case errors.Is(err, access.ErrWrongPassword), errors.Is(err, access.ErrBadBootstrap):
		status = fiber.StatusUnauthorized
	case f.retryAfter > 0:
		c.Set(fiber.HeaderRetryAfter, f.retrySeconds())
	case status >= fiber.StatusInternalServerError:
		return err
	}
	p.Problem = asSentence(f.details)
	return s.showSignIn(c, status, p)
}

// asSentence is an error's text as people read it.
func asSentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return ""
	}
	return strings.ToUpper(string(first)) + text[size:] + "."
}

func (s *Server) signOut(c *fiber.Ctx) error {
	if token := s.sessionCookie(c); token != "" {
		if err := s.Access.SignOut(c.UserContext(), origin(c), token); err != nil {
			return err
		}
		s.dropSession(c)
	}
	return seeOther(c, "/sign-in")
}

func (s *Server) signOutEverywhere(c *fiber.Ctx) error {
	p := principal(c)
	if p.Kind != access.KindUser {
		return seeOther(c, "/settings/profile")
	}
	if err := s.Access.SignOutEverywhere(c.UserContext(), origin(c), p.Name); err != nil {
		return err
	}
	s.dropSession(c)
	return seeOther(c, "/sign-in")
}

func (s *Server) profile(c *fiber.Ctx) error {
	if wantsJSON(c) {
		who := principal(c)
		o := newObject(256)
		o.text("id", who.ID)
		o.text("name", who.Name)
		o.text("display_name", who.DisplayName)
		o.text("kind", string(who.Kind))
		o.text("role", string(who.Role))
		o.value("groups", append([]string{}, who.Groups...))
		o.value("scopes", append([]access.Scope{}, who.Scopes()...))
		o.text("key_id", who.KeyID)
		return sendJSON(c, fiber.StatusOK, o.end())
	}
	done := ""
	if c.Query("done") == "password" {
		done = "The password is changed. You are signed out everywhere else."
	}
	return s.showProfile(c, fiber.StatusOK, "", done)
}

func (s *Server) showProfile(c *fiber.Ctx, status int, problem, done string) error {
	who := principal(c)
	p := settings.ProfilePage{Frame: s.settingsFrame(c, "Profile"), Problem: problem, Done: done}
	for _, scope := range who.Scopes() {
		p.Rights = append(p.Rights, string(scope))
	}
	if who.Kind != access.KindUser {
		return page(c, status, settings.Profile(p))
	}
	person, err := s.Access.User(c.UserContext(), who.Name)
	if err != nil {
		return err
	}
	sessions, err := s.Access.Sessions(c.UserContext(), who.Name)
	if err != nil {
		return err
	}
	p.Person = &person
	token := s.sessionCookie(c)
	for _, one := range sessions {
		p.Sessions = append(p.Sessions, settings.Session{Session: one, Current: access.Current(one, token)})
	}
	return page(c, status, settings.Profile(p))
}

func (s *Server) settingsFrame(c *fiber.Ctx, title string) layout.Page {
	frame := s.frame(c, title, "settings", layout.Crumb{Label: "Settings"})
	frame.Live = false
	return frame
}

func (s *Server) changePassword(c *fiber.Ctx) error {
	who := principal(c)
	if who.Kind != access.KindUser {
		return seeOther(c, "/settings/profile")
	}
	token, err := s.Access.ChangePassword(c.UserContext(), origin(c), who.Name, c.FormValue("old"), c.FormValue("password"), c.Get(fiber.HeaderUserAgent))
	if errors.Is(err, access.ErrWrongPassword) {
		return s.showProfile(c, fiber.StatusUnprocessableEntity, "The current password is not right.", "")
	}
	if problem := s.refusal(c, err); problem != "" {
		return s.showProfile(c, c.Response().StatusCode(), problem, "")
	}
	if err != nil {
		return err
	}
	s.setSession(c, token)
	return seeOther(c, "/settings/profile?done=password")
}

// refusal is the sentence for somebody who can put right what was wrong, with the status set; "" when it is nothing that a form could
// say.
func (s *Server) refusal(c *fiber.Ctx, err error) string {
	if err == nil {
		return ""
	}
	f := asFailure(err)
	switch f.status {
	case fiber.StatusBadRequest, fiber.StatusUnprocessableEntity:
		c.Status(fiber.StatusUnprocessableEntity)
	case fiber.StatusConflict, fiber.StatusForbidden:
		c.Status(f.status)
	case fiber.StatusTooManyRequests:
		c.Status(f.status)
		c.Set(fiber.HeaderRetryAfter, f.retrySeconds())
	default:
		return ""
	}
	return asSentence(f.details)
}

// roleWords say what a role may do.
func roleWords() []settings.Words {
	return []settings.Words{
		{Value: string(access.Viewer), Label: "viewer: sees everything"},
		{Value: string(access.Reviewer), Label: "reviewer: also decides what waits for a person"},
		{Value: string(access.Operator), Label: "operator: also starts, cancels and looks after executions"},
		{Value: string(access.Administrator), Label: "admin: all of that, and users, keys and the audit log"},
	}
}

// userJSON is somebody on the wire.
type userJSON struct {
	Name        string   `json:"name"`
	DisplayName string   `json:"display_name"`
	Role        string   `json:"role"`
	Groups      []string `json:"groups"`
	Disabled    bool     `json:"disabled"`
	CreatedAt   string   `json:"created_at"`
	SignedInAt  *string  `json:"signed_in_at"`
}

func asUserJSON(u models.User) userJSON {
	groups := u.Groups
	if groups == nil {
		groups = []string{}
	}
	return userJSON{
		Name: u.Name, DisplayName: u.DisplayName, Role: u.Role, Groups: groups, Disabled: u.Disabled, CreatedAt: formatMs(u.CreatedAt),
		SignedInAt: maybeMs(u.SignedInAt),
	}
}

func maybeMs(ms *int64) *string {
	if ms == nil {
		return nil
	}
	text := formatMs(*ms)
	return &text
}
