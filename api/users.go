package api

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/settings"
)

// userRoutes let admins look after people, on pages and by the API.
func (s *Server) userRoutes() []Route {
	return []Route{
		{"GET", "/settings/users", access.Admin, s.listUsers},
		{"POST", "/settings/users", access.Admin, s.createUser},
		{"POST", "/settings/users/:name/role", access.Admin, s.setRole},
		{"POST", "/settings/users/:name/groups", access.Admin, s.setGroups},
		{"POST", "/settings/users/:name/password", access.Admin, s.setPassword},
		{"POST", "/settings/users/:name/disable", access.Admin, s.disableUser},
		{"POST", "/settings/users/:name/enable", access.Admin, s.enableUser},
	}
}

func (s *Server) listUsers(c *fiber.Ctx) error {
	if !wantsJSON(c) {
		return s.showUsers(c, fiber.StatusOK, settings.UserForm{Role: string(access.Viewer)}, "", doneToUser(c.Query("done"), c.Query("name")))
	}
	users, err := s.Access.Users(c.UserContext())
	if err != nil {
		return err
	}
	list := make([]userJSON, len(users))
	for i, u := range users {
		list[i] = asUserJSON(u)
	}
	return c.JSON(fiber.Map{"users": list})
}

// doneToUser is what the page says after an act; the words of the address are not shown, only chosen by.
func doneToUser(act, name string) string {
	name = access.FoldName(typed(name))
	switch act {
	case "created":
		return name + " can sign in now."
	case "role":
		return name + " has the new role and signs in again."
	case "groups":
		return "The groups of " + name + " are changed."
	case "password":
		return name + " has the new password and signs in again."
	case "disabled":
		return name + " is signed out, and cannot sign in."
	case "enabled":
		return name + " can sign in again."
	}
	return ""
}

func (s *Server) showUsers(c *fiber.Ctx, status int, form settings.UserForm, problem, done string) error {
	users, err := s.Access.Users(c.UserContext())
	if err != nil {
		return err
	}
	who := principal(c)
	p := settings.UsersPage{
		Frame: s.settingsFrame(c, "Users"), Users: users, Roles: roleWords(), First: len(users) == 0, Form: form, Problem: problem, Done: done,
	}
	if who.Person() {
		p.Me = who.Name
	}
	return page(c, status, settings.Users(p))
}

func (s *Server) createUser(c *fiber.Ctx) error {
	var r struct {
		Name        string   `json:"name"`
		DisplayName string   `json:"display_name"`
		Role        string   `json:"role"`
		Groups      []string `json:"groups"`
		Password    string   `json:"password"`
	}
	if wantsJSON(c) {
		if err := bind(c, &r, false); err != nil {
			return err
		}
	} else {
		r.Name, r.DisplayName, r.Role, r.Password = c.FormValue("name"), c.FormValue("display_name"), c.FormValue("role"), c.FormValue("password")
		r.Groups = strings.Split(c.FormValue("groups"), ",")
	}
	u, err := s.Access.CreateUser(c.UserContext(), origin(c), access.NewUser{
		Name: r.Name, DisplayName: r.DisplayName, Role: access.Role(r.Role), Groups: r.Groups, Password: r.Password,
	})
	if wantsJSON(c) {
		if err != nil {
			return err
		}
		return c.Status(fiber.StatusCreated).JSON(asUserJSON(u))
	}
	if problem := s.refusal(c, err); problem != "" {
		form := settings.UserForm{Name: typed(r.Name), DisplayName: typed(r.DisplayName), Role: r.Role, Groups: typed(c.FormValue("groups"))}
		return s.showUsers(c, c.Response().StatusCode(), form, problem, "")
	}
	if err != nil {
		return err
	}
	return seeOther(c, "/settings/users?done=created&name="+u.Name)
}

func (s *Server) setRole(c *fiber.Ctx) error {
	var r struct {
		Role string `json:"role"`
	}
	if err := formOrJSON(c, &r, func() { r.Role = c.FormValue("role") }); err != nil {
		return err
	}
	u, err := s.Access.SetRole(c.UserContext(), origin(c), c.Params("name"), access.Role(r.Role))
	return s.changedUser(c, u, err, "role")
}

func (s *Server) setGroups(c *fiber.Ctx) error {
	var r struct {
		Groups []string `json:"groups"`
	}
	if err := formOrJSON(c, &r, func() { r.Groups = strings.Split(c.FormValue("groups"), ",") }); err != nil {
		return err
	}
	u, err := s.Access.SetGroups(c.UserContext(), origin(c), c.Params("name"), r.Groups)
	return s.changedUser(c, u, err, "groups")
}

func (s *Server) setPassword(c *fiber.Ctx) error {
	var r struct {
		Password string `json:"password"`
	}
	if err := formOrJSON(c, &r, func() { r.Password = c.FormValue("password") }); err != nil {
		return err
	}
	u, err := s.Access.SetPassword(c.UserContext(), origin(c), c.Params("name"), r.Password)
	return s.changedUser(c, u, err, "password")
}

func (s *Server) disableUser(c *fiber.Ctx) error {
	u, err := s.Access.SetDisabled(c.UserContext(), origin(c), c.Params("name"), true)
	return s.changedUser(c, u, err, "disabled")
}

func (s *Server) enableUser(c *fiber.Ctx) error {
	u, err := s.Access.SetDisabled(c.UserContext(), origin(c), c.Params("name"), false)
	return s.changedUser(c, u, err, "enabled")
}

// formOrJSON reads a body in the form of its mount.
func formOrJSON(c *fiber.Ctx, into any, form func()) error {
	if wantsJSON(c) {
		return bind(c, into, false)
	}
	form()
	return nil
}

// changedUser answers an act upon somebody.
func (s *Server) changedUser(c *fiber.Ctx, u models.User, err error, act string) error {
	if wantsJSON(c) {
		if err != nil {
			return err
		}
		return c.JSON(asUserJSON(u))
	}
	if problem := s.refusal(c, err); problem != "" {
		return s.showUsers(c, c.Response().StatusCode(), settings.UserForm{Role: string(access.Viewer)}, problem, "")
	}
	if err != nil {
		return err
	}
	return seeOther(c, "/settings/users?done="+act+"&name="+u.Name)
}
