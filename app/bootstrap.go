package app

import (
	"context"
	"fmt"

	"github.com/agentfield/agentfield/app/access"
)

// openAccess decides who may come in: everybody on a loopback address until there is a key or a user, holders of credentials elsewhere.
// Where credentials are demanded and nobody could sign in, a token to create the first admin is made and shown once, on the terminal of
// whoever started the server.
func (a *App) openAccess(ctx context.Context) (*access.Service, error) {
	who := access.New(access.Options{DB: a.db, Log: a.log, APIKey: a.config.APIKey, Loopback: a.config.Loopback()})
	token, err := who.Bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	if token != "" {
		fmt.Printf("\nThis server demands credentials and nobody can sign in yet. Create the first admin at /sign-in within 24 hours with this token,\n"+
			"which is shown once and works once:\n\n    %s\n\n"+
			"Programs send a key as 'X-API-Key: …' or 'Authorization: Bearer …': set AGENTFIELD_API_KEY, or make keys under Settings once you are in.\n\n", token)
	}
	return who, nil
}
