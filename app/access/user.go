package access

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// What is wrong with an act upon somebody.
var (
	ErrBadName        = errors.New("a name has 1 to 64 letters of a to z, digits, or . _ - @, and begins with a letter or a digit")
	ErrBadDisplayName = errors.New("a displayed name is one line of at most 100 bytes")
	ErrBadRole        = errors.New("the role must be viewer, reviewer, operator or admin")
	ErrBadGroup       = errors.New("somebody belongs to at most 50 groups, which are named like users")
	ErrUserExists     = errors.New("there is a user of this name, or was: names are never given again")
	ErrNoUser         = errors.New("there is no user of this name")
	ErrFirstAdmin     = errors.New("the first user must be an admin: otherwise nobody could add another")
	ErrLastAdmin      = errors.New("this is the last admin who can sign in: make somebody else an admin first")
)

// NewUser is somebody to add.
type NewUser struct {
	Name        string
	DisplayName string // empty: the name
	Role        Role
	Groups      []string
	Password    string
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)

// FoldName is a name as it is stored and compared.
func FoldName(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

const maxGroups = 50

func checkGroups(groups []string) ([]string, error) {
	folded := []string{}
	for _, g := range groups {
		if g = FoldName(g); g == "" {
			continue
		}
		if !namePattern.MatchString(g) {
			return nil, ErrBadGroup
		}
		folded = append(folded, g)
	}
	slices.Sort(folded)
	if folded = slices.Compact(folded); len(folded) > maxGroups {
		return nil, ErrBadGroup
	}
	return folded, nil
}

func (u NewUser) checked() (NewUser, error) {
	u.Name = FoldName(u.Name)
	if u.DisplayName = strings.TrimSpace(u.DisplayName); u.DisplayName == "" {
		u.DisplayName = u.Name
	}
	var err error
	switch {
	case !namePattern.MatchString(u.Name):
		return u, ErrBadName
	case !oneLine(u.DisplayName, 100):
		return u, ErrBadDisplayName
	case u.Role.Scopes() == nil:
		return u, ErrBadRole
	}
	if u.Groups, err = checkGroups(u.Groups); err != nil {
		return u, err
	}
	return u, checkPassword(u.Name, u.Password)
}

// CreateUser adds somebody.
func (s *Service) CreateUser(ctx context.Context, o audit.Origin, u NewUser) (models.User, error) {
	row, err := s.prepare(ctx, u)
	if err != nil {
		return models.User{}, err
	}
	err = s.db.Tx(ctx, func(tx *database.Tx) error {
		if err := s.insertUser(ctx, tx, &row); err != nil {
			return err
		}
		return s.append(ctx, tx, o, "user.created", "user", row.Name, nil, described(&row))
	})
	return row, err
}

// prepare checks somebody and hashes the password, which is too slow for a transaction.
func (s *Service) prepare(ctx context.Context, u NewUser) (models.User, error) {
	u, err := u.checked()
	if err != nil {
		return models.User{}, err
	}
	hash, err := s.hasher.hash(ctx, u.Password)
	if err != nil {
		return models.User{}, err
	}
	now := s.db.NowMs()
	return models.User{
		Name: u.Name, DisplayName: u.DisplayName, Role: string(u.Role), Groups: u.Groups, PasswordHash: hash, CreatedAt: now, UpdatedAt: now,
	}, nil
}

func (s *Service) insertUser(ctx context.Context, tx *database.Tx, u *models.User) error {
	if u.Role != string(Administrator) {
		var others int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM users", nil, &others); err != nil {
			return fmt.Errorf("count the users: %w", err)
		}
		if others == 0 {
			return ErrFirstAdmin
		}
	}
	n, err := tx.Exec(ctx, `INSERT INTO users (name, display_name, role, member_of, password_hash, disabled, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (name) DO NOTHING`,
		u.Name, u.DisplayName, u.Role, encodeGroups(u.Groups), u.PasswordHash, false, u.CreatedAt)
	if err != nil {
		return fmt.Errorf("add the user: %w", err)
	}
	if n == 0 {
		return ErrUserExists
	}
	// With somebody who can sign in the first token has done its work, used or not.
	if _, err := tx.Exec(ctx, "DELETE FROM settings WHERE name = $1", bootstrapSetting); err != nil {
		return fmt.Errorf("void the first token: %w", err)
	}
	tx.AfterCommit(func() { s.peopled.Store(true) })
	return nil
}

// described is what the record says of somebody.
func described(u *models.User) map[string]any {
	return map[string]any{"display_name": u.DisplayName, "role": u.Role, "groups": u.Groups, "disabled": u.Disabled}
}

const userColumns = `SELECT name, display_name, role, member_of, password_hash, disabled, created_at, updated_at, signed_in_at FROM users`

func scanUser(rows interface{ Scan(dest ...any) error }, u *models.User) error {
	var groups string
	if err := rows.Scan(&u.Name, &u.DisplayName, &u.Role, &groups, &u.PasswordHash, &u.Disabled, &u.CreatedAt, &u.UpdatedAt, &u.SignedInAt); err != nil {
		return err
	}
	u.Groups = decodeGroups(groups)
	return nil
}

// Users lists everybody by name.
func (s *Service) Users(ctx context.Context) ([]models.User, error) {
	rows, err := s.db.Query(ctx, userColumns+` ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list the users: %w", err)
	}
	defer rows.Close()
	users := []models.User{}
	for rows.Next() {
		var u models.User
		if err := scanUser(rows, &u); err != nil {
			return nil, fmt.Errorf("list the users: %w", err)
		}
		users = append(users, u)
	}
	return users, rows.Err()
}

// User is the one of a name; ErrNoUser when there is none.
func (s *Service) User(ctx context.Context, name string) (models.User, error) {
	name = FoldName(name)
	if !namePattern.MatchString(name) {
		return models.User{}, ErrNoUser // and PostgreSQL would refuse some of them with an error
	}
	rows, err := s.db.Query(ctx, userColumns+` WHERE name = $1`, name)
	if err != nil {
		return models.User{}, fmt.Errorf("find the user: %w", err)
	}
	return oneUser(rows)
}

func oneUser(rows database.Rows) (models.User, error) {
	defer rows.Close()
	var u models.User
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return u, fmt.Errorf("find the user: %w", err)
		}
		return u, ErrNoUser
	}
	if err := scanUser(rows, &u); err != nil {
		return u, fmt.Errorf("find the user: %w", err)
	}
	return u, nil
}

// heldUser reads somebody and holds the row until the commit.
func heldUser(ctx context.Context, tx *database.Tx, name string) (models.User, error) {
	rows, err := tx.Query(ctx, forUpdate(tx, userColumns+` WHERE name = $1`), name)
	if err != nil {
		return models.User{}, fmt.Errorf("find the user: %w", err)
	}
	return oneUser(rows)
}

// change is one act upon somebody: it changes u, or returns why not.
type change struct {
	action string
	apply  func(u *models.User) error
	ends   bool // the sessions of the person: they sign in anew, under a new id
}

// SetRole gives somebody another role. Their sessions end.
func (s *Service) SetRole(ctx context.Context, o audit.Origin, name string, role Role) (models.User, error) {
	if role.Scopes() == nil {
		return models.User{}, ErrBadRole
	}
	return s.change(ctx, o, name, change{action: "user.role_changed", ends: true, apply: func(u *models.User) error {
		u.Role = string(role)
		return nil
	}})
}

// SetGroups says to which groups somebody belongs.
func (s *Service) SetGroups(ctx context.Context, o audit.Origin, name string, groups []string) (models.User, error) {
	groups, err := checkGroups(groups)
	if err != nil {
		return models.User{}, err
	}
	return s.change(ctx, o, name, change{action: "user.groups_changed", apply: func(u *models.User) error {
		u.Groups = groups
		return nil
	}})
}

// SetDisabled keeps somebody out, with sessions and keys, or lets them in again.
func (s *Service) SetDisabled(ctx context.Context, o audit.Origin, name string, disabled bool) (models.User, error) {
	action := "user.enabled"
	if disabled {
		action = "user.disabled"
	}
	return s.change(ctx, o, name, change{action: action, ends: disabled, apply: func(u *models.User) error {
		u.Disabled = disabled
		return nil
	}})
}

// SetPassword gives somebody another password without asking for the old one. Their sessions end.
func (s *Service) SetPassword(ctx context.Context, o audit.Origin, name, password string) (models.User, error) {
	name = FoldName(name)
	if err := checkPassword(name, password); err != nil {
		return models.User{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return models.User{}, err
	}
	return s.change(ctx, o, name, change{action: "user.password_reset", ends: true, apply: func(u *models.User) error {
		u.PasswordHash = hash
		return nil
	}})
}

func (s *Service) change(ctx context.Context, o audit.Origin, name string, c change) (models.User, error) {
	name = FoldName(name)
	if !namePattern.MatchString(name) {
		return models.User{}, ErrNoUser
	}
	var u models.User
	err := s.db.Tx(ctx, func(tx *database.Tx) error {
		admins, err := heldAdmins(ctx, tx)
		if err != nil {
			return err
		}
		if u, err = heldUser(ctx, tx, name); err != nil {
			return err
		}
		before := described(&u)
		if err := c.apply(&u); err != nil {
			return err
		}
		if (u.Role != string(Administrator) || u.Disabled) && slices.Equal(admins, []string{name}) {
			return ErrLastAdmin
		}
		if err := s.update(ctx, tx, &u, c.ends); err != nil {
			return err
		}
		return s.append(ctx, tx, o, c.action, "user", name, before, described(&u))
	})
	return u, err
}

func (s *Service) update(ctx context.Context, tx *database.Tx, u *models.User, ends bool) error {
	u.UpdatedAt = s.db.NowMs()
	if _, err := tx.Exec(ctx, "UPDATE users SET role = $1, member_of = $2, password_hash = $3, disabled = $4, updated_at = $5 WHERE name = $6",
		u.Role, encodeGroups(u.Groups), u.PasswordHash, u.Disabled, u.UpdatedAt, u.Name); err != nil {
		return fmt.Errorf("change the user: %w", err)
	}
	if ends {
		if _, err := tx.Exec(ctx, "DELETE FROM sessions WHERE user_name = $1", u.Name); err != nil {
			return fmt.Errorf("end the sessions: %w", err)
		}
	}
	tx.AfterCommit(s.keys.forget)
	return nil
}

// heldAdmins names the admins who can sign in and holds them until the commit: two who demote each other must not both succeed.
func heldAdmins(ctx context.Context, tx *database.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, forUpdate(tx, "SELECT name FROM users WHERE role = 'admin' AND NOT disabled ORDER BY name"))
	if err != nil {
		return nil, fmt.Errorf("find the admins: %w", err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("find the admins: %w", err)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
