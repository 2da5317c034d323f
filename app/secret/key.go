package secret

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentfield/agentfield/app/database"
)

const (
	keyFile    = "agentfield.key"
	keySetting = "secret_key"
	minText    = 16
)

var (
	// ErrWeakKey says that the configured key is too short to protect anything.
	ErrWeakKey = errors.New("the configured secret key is too short: give 32 random bytes in base64, or a random text of at least 16 characters")
	// ErrKeyFile says that the key file is not one.
	ErrKeyFile = errors.New("the key file is damaged: put back the one from the backup; without it sealed values cannot be opened")
)

// Config says where the key comes from.
type Config struct {
	Configured string // 32 bytes in base64, or a random text of 16 or more characters; "" if none was configured
	DataDir    string // where SQLite lives
}

// LoadKey returns the server's key: the configured one; else on SQLite that of the file agentfield.key in the data directory, made if
// need be; else on PostgreSQL one kept in the settings table, so that all replicas agree. warning, if not empty, is for the operator
// to read once at start.
func LoadKey(ctx context.Context, c Config, db *database.DB) (key []byte, warning string, err error) {
	switch {
	case c.Configured != "":
		key, err = parseKey(c.Configured)
	case db.Postgres():
		key, err = settingKey(ctx, db)
		warning = "the key that protects stored secrets lies in the same database as the secrets: set AGENTFIELD_SECRET_KEY, " +
			"so that a copy of the database gives nothing away"
	default:
		key, warning, err = fileKey(filepath.Join(c.DataDir, keyFile))
	}
	if err != nil {
		return nil, "", err
	}
	return key, warning, nil
}

// parseKey takes base64 of 32 bytes as the key itself and stretches any other text to one. The text is expected to be random, as
// from a password manager: there is no slow hash here that would make up for a guessable one.
func parseKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if key, ok := decodeKey(text); ok {
		return key, nil
	}
	if len(text) < minText {
		return nil, ErrWeakKey
	}
	key, err := hkdf.Key(sha256.New, []byte(text), nil, passwordLabel, KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the secret key: %w", err)
	}
	return key, nil
}

func decodeKey(text string) ([]byte, bool) {
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(text); err == nil && len(key) == KeySize {
			return key, true
		}
	}
	return nil, false
}

func newKey() ([]byte, error) {
	key := make([]byte, KeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("draw a secret key: %w", err)
	}
	return key, nil
}

// fileKey reads the file or makes it. The data directory is locked by this process, so nobody else makes one at the same time.
func fileKey(path string) (key []byte, warning string, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = writeKey(path)
		return key, "", err
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the key file: %w", err)
	}
	key, ok := decodeKey(strings.TrimSpace(string(text)))
	if !ok {
		return nil, "", fmt.Errorf("%s: %w", path, ErrKeyFile)
	}
	return key, exposed(path), nil
}

func exposed(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return ""
	}
	return fmt.Sprintf("the key file %s can be read by other users of this machine: chmod 600 it", path)
}

// writeKey stores a new key so that a crash leaves either no file or a whole one: nothing may be sealed with a key that is then lost.
func writeKey(path string) ([]byte, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	part := path + ".new"
	if err := writeSynced(part, base64.StdEncoding.EncodeToString(key)+"\n"); err != nil {
		return nil, fmt.Errorf("write the key file: %w", err)
	}
	if err := os.Rename(part, path); err != nil {
		return nil, fmt.Errorf("write the key file: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("write the key file: %w", err)
	}
	return key, nil
}

func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// settingKey lets the first replica win; all others, and it too, read what is stored then.
func settingKey(ctx context.Context, db *database.DB) ([]byte, error) {
	fresh, err := newKey()
	if err != nil {
		return nil, err
	}
	var key []byte
	err = db.Tx(ctx, func(tx *database.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", keySetting, fresh); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT value FROM settings WHERE name = $1", []any{keySetting}, &key)
	})
	if err != nil {
		return nil, fmt.Errorf("read the secret key from the database: %w", err)
	}
	return key, nil
}
