package yardstick

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
)

// sqlite keeps the rows in one file: WAL, synchronous=FULL, one connection that writes.
type sqlite struct {
	db     *sql.DB
	conn   *sql.Conn
	insert *sql.Stmt
	finish *sql.Stmt
}

func openSQLite(ctx context.Context, dir string) (*sqlite, error) {
	uri := "file:" + filepath.Join(dir, "yardstick.db") + "?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=busy_timeout(5000)&_txlock=immediate"
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

func (s *sqlite) prepare(ctx context.Context) (err error) {
	if _, err = s.conn.ExecContext(ctx, `CREATE TABLE records (id TEXT PRIMARY KEY, input BLOB NOT NULL, result BLOB) WITHOUT ROWID`); err != nil {
		return fmt.Errorf("create the yardstick's table: %w", err)
	}
	if s.insert, err = s.conn.PrepareContext(ctx, `INSERT INTO records (id, input) VALUES (?, ?)`); err != nil {
		return err
	}
	s.finish, err = s.conn.PrepareContext(ctx, `UPDATE records SET result = ? WHERE id = ?`)
	return err
}

func (s *sqlite) commit(ctx context.Context, batch []*item) error {
	tx, err := s.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, it := range batch {
		if it.finish {
			_, err = tx.StmtContext(ctx, s.finish).ExecContext(ctx, it.result, it.id)
		} else {
			_, err = tx.StmtContext(ctx, s.insert).ExecContext(ctx, it.id, it.input)
		}
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func (s *sqlite) close() error { return errors.Join(s.conn.Close(), s.db.Close()) }
