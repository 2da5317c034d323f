package yardstick

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgres writes each batch with one statement for inserts and one for results.
type postgres struct{ pool *pgxpool.Pool }

func openPostgres(ctx context.Context, url string) (*postgres, error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open the yardstick's database: %w", err)
	}
	if _, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS records (id TEXT COLLATE "C" PRIMARY KEY, input BYTEA NOT NULL, result BYTEA)`); err != nil {
		pool.Close()
		return nil, fmt.Errorf("create the yardstick's table: %w", err)
	}
	return &postgres{pool: pool}, nil
}

func (p *postgres) commit(ctx context.Context, batch []*item) error {
	var newIDs, endedIDs []string
	var inputs, results [][]byte
	for _, it := range batch {
		if it.finish {
			endedIDs, results = append(endedIDs, it.id), append(results, it.result)
		} else {
			newIDs, inputs = append(newIDs, it.id), append(inputs, it.input)
		}
	}
	both := &pgx.Batch{} // one round trip and one implicit transaction
	if len(newIDs) > 0 {
		both.Queue(`INSERT INTO records (id, input) SELECT * FROM unnest($1::text[], $2::bytea[])`, newIDs, inputs)
	}
	if len(endedIDs) > 0 {
		both.Queue(`UPDATE records r SET result = v.result FROM unnest($1::text[], $2::bytea[]) v(id, result) WHERE r.id = v.id`, endedIDs, results)
	}
	return p.pool.SendBatch(ctx, both).Close()
}

func (p *postgres) close() error {
	p.pool.Close()
	return nil
}
