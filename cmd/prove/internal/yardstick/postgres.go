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
	if _, err := pool.Exec(ctx, `CREATE TABLE inputs (id BIGINT PRIMARY KEY, body BYTEA NOT NULL);
		CREATE TABLE results (id BIGINT PRIMARY KEY, body BYTEA NOT NULL)`); err != nil {
		pool.Close()
		return nil, fmt.Errorf("create the yardstick's tables: %w", err)
	}
	return &postgres{pool: pool}, nil
}

func (p *postgres) commit(ctx context.Context, batch []*item) error {
	var begun, ended columns
	for _, it := range batch {
		if it.finish {
			ended.add(it)
		} else {
			begun.add(it)
		}
	}
	both := &pgx.Batch{} // one round trip and one implicit transaction
	if len(begun.ids) > 0 {
		both.Queue(`INSERT INTO inputs (id, body) SELECT * FROM unnest($1::bigint[], $2::bytea[])`, begun.ids, begun.bodies)
	}
	if len(ended.ids) > 0 {
		both.Queue(`INSERT INTO results (id, body) SELECT * FROM unnest($1::bigint[], $2::bytea[])`, ended.ids, ended.bodies)
	}
	return p.pool.SendBatch(ctx, both).Close()
}

// columns are the rows of one table, as unnest takes them.
type columns struct {
	ids    []int64
	bodies [][]byte
}

func (c *columns) add(it *item) { c.ids, c.bodies = append(c.ids, it.id), append(c.bodies, it.body) }

func (p *postgres) close() error {
	p.pool.Close()
	return nil
}
