package yardstick

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
)

// sqlite keeps the rows in one file: WAL, synchronous=FULL, one connection that writes, statements prepared once.
type sqlite struct {
	db   *sql.DB
	conn *sql.Conn

	begin, insert, finish, end *sql.Stmt
}

func openSQLite(ctx context.Context, dir string) (*sqlite, error) {
	uri := "file:" + filepath.Join(dir, "yardstick.db") + "?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=busy_timeout(5000)"
	db, err := sql.Open("sqlite3", uri)
	if err != nil {
		return nil, fmt.Errorf("open the yardstick's database: %w", err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &sqlite{db: db, conn: conn}
	return s, s.prepare(ctx)
}

func (s *sqlite) prepare(ctx context.Context) error {
	for _, table := range []string{
		`CREATE TABLE inputs (id INTEGER PRIMARY KEY, body BLOB NOT NULL)`, `CREATE TABLE results (id INTEGER PRIMARY KEY, body BLOB NOT NULL)`,
	} {
		if _, err := s.conn.ExecContext(ctx, table); err != nil {
			return fmt.Errorf("create the yardstick's tables: %w", err)
		}
	}
	for _, statement := range []struct {
		place *(*sql.Stmt)
		text  string
	}{
		{&s.begin, `BEGIN IMMEDIATE`},
		{&s.end, `COMMIT`},
		{&s.insert, `INSERT INTO inputs (id, body) VALUES (?, ?)`},
		{&s.finish, `INSERT INTO results (id, body) VALUES (?, ?)`},
	} {
		prepared, err := s.conn.PrepareContext(ctx, statement.text) //nolint:sqlclosecheck // closed with the connection
		if err != nil {
			return fmt.Errorf("prepare the yardstick: %w", err)
		}
		*statement.place = prepared
	}
	return nil
}

func (s *sqlite) commit(ctx context.Context, batch []*item) error {
	if _, err := s.begin.ExecContext(ctx); err != nil {
		return err
	}
	for _, it := range batch {
		write := s.insert
		if it.finish {
			write = s.finish
		}
		if _, err := write.ExecContext(ctx, it.id, it.body); err != nil {
			_, undone := s.conn.ExecContext(ctx, `ROLLBACK`)
			return errors.Join(err, undone)
		}
	}
	_, err := s.end.ExecContext(ctx)
	return err
}

func (s *sqlite) close() error { return errors.Join(s.conn.Close(), s.db.Close()) }
