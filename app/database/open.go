// Package database opens SQLite or PostgreSQL and carries every statement of the program. Its invariant: on SQLite there is one
// writer, and whatever is answered as written has been committed.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentfield/agentfield/migrations"
)

// ErrBusy says that the store cannot take more writes at the moment. Nothing was written; the caller may try again in a second.
var ErrBusy = errors.New("the store is saturated: try again in a second")

// ErrInUse says that another process has the data directory open.
var ErrInUse = errors.New("another agentfield server uses this data directory: stop it, or choose another --data-dir")

// Config names the database. With a URL it is PostgreSQL, otherwise SQLite in DataDir.
type Config struct {
	DataDir  string
	URL      string // postgres://…
	MaxConns int32  // connections to PostgreSQL; 0: 16
	Clock    func() time.Time
	Log      *slog.Logger
}

// DB is an open database with its schema migrated.
type DB struct {
	clock  clock
	log    *slog.Logger
	gorm   *gorm.DB
	reader *sql.DB // for GORM and goose. SQLite: a pool that only reads. PostgreSQL: the pool.

	pool    *pgxpool.Pool // PostgreSQL only
	url     string
	writer  *writer   // SQLite only
	quick   *litePool // SQLite only: the hot reads
	lock    *os.File
	closers []func()
}

// Open connects, migrates and returns the database. It fails with ErrInUse when another process holds the data directory and with
// migrations.ErrNewerSchema when a newer release has migrated it.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	db := &DB{log: c.Log, url: c.URL}
	db.clock.base = c.Clock
	if c.Clock == nil {
		db.clock.base = time.Now
		db.clock.follow = c.URL != ""
	}
	var err error
	if c.URL != "" {
		err = db.openPostgres(ctx, c)
	} else {
		err = db.openSQLite(ctx, c)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// Postgres reports which of the two engines this is.
func (db *DB) Postgres() bool { return db.pool != nil }

// Pool is the PostgreSQL pool, nil on SQLite. LISTEN needs a connection of its own: see Listen.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Gorm is for reads that are not hot: lists, details, counts. It never writes on SQLite.
func (db *DB) Gorm(ctx context.Context) *gorm.DB { return db.gorm.WithContext(ctx) }

// Migrations lists the schema's steps.
func (db *DB) Migrations(ctx context.Context) ([]migrations.Step, error) {
	return migrations.Status(ctx, db.reader, db.Postgres())
}

// Ping asks the database a question and waits for the answer.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	if err := db.QueryRow(ctx, "SELECT 1", nil, &one); err != nil {
		return fmt.Errorf("ask the database: %w", err)
	}
	return nil
}

// Close finishes the writes that were begun and closes every connection.
func (db *DB) Close() {
	for _, v := range slices.Backward(db.closers) {
		v()
	}
	db.closers = nil
}

func (db *DB) openPostgres(ctx context.Context, c Config) error {
	config, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return fmt.Errorf("read the database URL: %w", err)
	}
	config.MaxConns = 16
	if c.MaxConns > 0 {
		config.MaxConns = c.MaxConns
	}
	params := config.ConnConfig.RuntimeParams
	params["application_name"] = "agentfield"
	params["timezone"] = "UTC"
	params["statement_timeout"] = "30s"
	params["lock_timeout"] = "10s"
	params["idle_in_transaction_session_timeout"] = "30s"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	db.pool = pool
	db.closers = append(db.closers, pool.Close)
	db.reader = stdlib.OpenDBFromPool(pool)
	db.closers = append(db.closers, func() { _ = db.reader.Close() })
	if err := migrations.Up(ctx, db.reader, true); err != nil {
		return err
	}
	if err := db.SyncClock(ctx); err != nil {
		return err
	}
	return db.openGorm(postgres.New(postgres.Config{Conn: db.reader}), false)
}

func (db *DB) openSQLite(ctx context.Context, c Config) error {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	held, err := lockDir(c.DataDir)
	if err != nil {
		return err
	}
	db.lock = held
	db.closers = append(db.closers, func() { _ = held.Close() })

	file := sqliteURI(filepath.Join(c.DataDir, "agentfield.db"))
	if err := migrateSQLite(ctx, file); err != nil {
		return err
	}
	readOnly := file + "&_pragma=query_only(on)"
	db.reader, err = sql.Open("sqlite3", readOnly)
	if err != nil {
		return fmt.Errorf("open SQLite for reading: %w", err)
	}
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	db.closers = append(db.closers, func() { _ = db.reader.Close() })
	db.quick = newLitePool(readOnly, readers)
	db.closers = append(db.closers, db.quick.close)
	db.writer, err = startWriter(ctx, file, db.log)
	if err != nil {
		return err
	}
	db.closers = append(db.closers, db.writer.stop)
	return db.openGorm(gormlite.OpenDB(db.reader), true)
}

// readers is how many connections of SQLite read at once, for GORM and for the hot reads each.
const readers = 4

func migrateSQLite(ctx context.Context, uri string) error {
	db, err := sql.Open("sqlite3", uri+"&_txlock=immediate")
	if err != nil {
		return fmt.Errorf("open SQLite: %w", err)
	}
	db.SetMaxOpenConns(1)
	defer func() { _ = db.Close() }()
	return migrations.Up(ctx, db, false)
}

// sqliteURI carries the pragmas, so that every connection has them. FULL: a commit survives a power cut.
func sqliteURI(path string) string {
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
	return "file:" + escaped + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)" +
		"&_pragma=foreign_keys(on)&_pragma=cache_size(-8000)&_pragma=temp_store(memory)"
}

func (db *DB) openGorm(dialector gorm.Dialector, prepare bool) error {
	g, err := gorm.Open(dialector, &gorm.Config{
		SkipDefaultTransaction: true,
		TranslateError:         true,
		PrepareStmt:            prepare,
		PrepareStmtMaxSize:     128,
		Logger:                 logger.Discard,
	})
	if err != nil {
		return fmt.Errorf("open GORM: %w", err)
	}
	db.gorm = g
	return nil
}

// Listen opens a connection of its own that receives the notifications of a channel; PostgreSQL only. The caller closes it.
func (db *DB) Listen(ctx context.Context, channel string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, db.url)
	if err != nil {
		return nil, fmt.Errorf("connect to listen: %w", err)
	}
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("listen on %s: %w", channel, err)
	}
	return conn, nil
}
