package app

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/database"
)

// bootstrap makes the first credential of a server that others can reach. Only its hash is kept; the token itself is shown once, on the
// terminal of whoever started the server.
func (a *App) bootstrap(ctx context.Context) (*access.Gate, error) {
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("make a token: %w", err)
	}
	token := "af_" + base64.RawURLEncoding.EncodeToString(random)
	sum := sha256.Sum256([]byte(token))
	hash, fresh := sum[:], false
	err := a.db.Tx(ctx, func(tx *database.Tx) error {
		n, err := tx.Exec(ctx, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", bootstrapSetting, sum[:])
		if err != nil {
			return err
		}
		fresh = n == 1
		err = tx.QueryRow(ctx, "SELECT value FROM settings WHERE name = $1", []any{bootstrapSetting}, &hash)
		if errors.Is(err, database.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store the first token: %w", err)
	}
	if fresh {
		fmt.Printf("\nThis server can be reached from other machines, so it demands a credential. This token is shown once:\n\n    %s\n\n"+
			"Send it as 'X-API-Key: …' or 'Authorization: Bearer …'. To choose one yourself, set AGENTFIELD_API_KEY.\n\n", token)
	}
	return access.NewGateOfHash([32]byte(hash)), nil
}
