package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/ncruces/go-sqlite3"
)

// errRowsOpen says that a statement was to run while the rows of an earlier one were still being read on the same connection.
var errRowsOpen = errors.New("the rows of the statement before are still open: close them first")

// liteConn is one connection to SQLite with its prepared statements. It speaks to the engine itself: going through database/sql
// costs every column of every row a boxed value and a conversion, which is most of the price of a small statement.
// One goroutine uses it at a time.
type liteConn struct {
	conn    *sqlite3.Conn
	stmts   map[string]*sqlite3.Stmt
	reading bool
}

func openLite(ctx context.Context, uri string) (*liteConn, error) {
	conn, err := sqlite3.OpenContext(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	return &liteConn{conn: conn, stmts: map[string]*sqlite3.Stmt{}}, nil
}

func (c *liteConn) close() error { return c.conn.Close() }

// bound gives the prepared statement with its arguments in place.
func (c *liteConn) bound(ctx context.Context, query string, args []any) (*sqlite3.Stmt, error) {
	if c.reading {
		return nil, errRowsOpen
	}
	c.conn.SetInterrupt(ctx)
	stmt, ok := c.stmts[query]
	if !ok {
		var err error
		if stmt, _, err = c.conn.PrepareFlags(numbered(query), sqlite3.PREPARE_PERSISTENT); err != nil {
			return nil, c.failure(ctx, fmt.Errorf("prepare: %w", err))
		}
		c.stmts[query] = stmt
	}
	for i, arg := range args {
		if err := bind(stmt, i+1, arg); err != nil {
			return nil, err
		}
	}
	return stmt, nil
}

func (c *liteConn) exec(ctx context.Context, query string, args []any) (int64, error) {
	stmt, err := c.bound(ctx, query, args)
	if err != nil {
		return 0, err
	}
	before := c.conn.TotalChanges()
	if err := stmt.Exec(); err != nil {
		return 0, c.failure(ctx, err)
	}
	if c.conn.TotalChanges() == before {
		return 0, nil // Changes would still be that of an earlier statement
	}
	return c.conn.Changes(), nil
}

func (c *liteConn) insert(ctx context.Context, query string, args []any) (int64, error) {
	if _, err := c.exec(ctx, query, args); err != nil {
		return 0, err
	}
	return c.conn.LastInsertRowID(), nil
}

func (c *liteConn) query(ctx context.Context, query string, args []any) (*liteRows, error) {
	stmt, err := c.bound(ctx, query, args)
	if err != nil {
		return nil, err
	}
	c.reading = true
	return &liteRows{ctx: ctx, conn: c, stmt: stmt}, nil
}

// failure tells an interruption by what interrupted.
func (c *liteConn) failure(ctx context.Context, err error) error {
	if errors.Is(err, sqlite3.INTERRUPT) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// liteRows are the rows of one statement. done, if any, gets the connection back when they are closed.
type liteRows struct {
	ctx  context.Context //nolint:containedctx // the context of the statement, which lives as long as its rows
	conn *liteConn
	stmt *sqlite3.Stmt
	err  error
	done func()
}

func (r *liteRows) Next() bool { return r.stmt != nil && r.stmt.Step() }

func (r *liteRows) Err() error {
	if r.err == nil && r.stmt != nil {
		r.err = r.stmt.Err()
	}
	if r.err == nil {
		return nil
	}
	return r.conn.failure(r.ctx, r.err)
}

func (r *liteRows) Close() {
	if r.stmt == nil {
		return
	}
	if err := r.Err(); err == nil {
		r.err = r.stmt.Reset()
	} else {
		_ = r.stmt.Reset() // tells the same error once more
	}
	r.stmt = nil
	r.conn.reading = false
	if r.done != nil {
		r.done()
	}
}

func (r *liteRows) Scan(dest ...any) error {
	if r.stmt == nil {
		return errors.New("scan: the rows are closed")
	}
	for i, d := range dest {
		if err := column(r.stmt, i, d); err != nil {
			return fmt.Errorf("scan column %d (%s): %w", i, r.stmt.ColumnName(i), err)
		}
	}
	return nil
}

// bind gives a statement one argument. Empty bytes are an empty blob, a nil pointer is NULL.
func bind(stmt *sqlite3.Stmt, n int, arg any) error {
	switch v := arg.(type) {
	case nil:
		return stmt.BindNull(n)
	case string:
		return stmt.BindText(n, v)
	case int64:
		return stmt.BindInt64(n, v)
	case int:
		return stmt.BindInt(n, v)
	case bool:
		return stmt.BindBool(n, v)
	case []byte:
		return stmt.BindBlob(n, v)
	case *string:
		if v == nil {
			return stmt.BindNull(n)
		}
		return stmt.BindText(n, *v)
	case *int64:
		if v == nil {
			return stmt.BindNull(n)
		}
		return stmt.BindInt64(n, *v)
	}
	return bindKind(stmt, n, reflect.ValueOf(arg))
}

// bindKind is bind for named types, such as a status.
func bindKind(stmt *sqlite3.Stmt, n int, v reflect.Value) error {
	switch v.Kind() { //nolint:exhaustive // what is not a column's kind falls through to the error
	case reflect.Pointer:
		if v.IsNil() {
			return stmt.BindNull(n)
		}
		return bind(stmt, n, v.Elem().Interface())
	case reflect.String:
		return stmt.BindText(n, v.String())
	case reflect.Bool:
		return stmt.BindBool(n, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return stmt.BindInt64(n, v.Int())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return stmt.BindInt64(n, int64(v.Uint())) //nolint:gosec // at most 32 bits
	case reflect.Float32, reflect.Float64:
		return stmt.BindFloat(n, v.Float())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return stmt.BindBlob(n, v.Bytes())
		}
	}
	return fmt.Errorf("argument %d: SQLite cannot hold a %s", n, v.Type())
}

var errNull = errors.New("the column is NULL, and its place cannot be")

// column reads one column of the current row into the place for it. NULL needs a pointer or bytes.
func column(stmt *sqlite3.Stmt, i int, dest any) error {
	switch d := dest.(type) {
	case *string:
		text := stmt.ColumnRawText(i)
		if text == nil && stmt.ColumnType(i) == sqlite3.NULL {
			return errNull
		}
		*d = string(text)
		return nil
	case *int64:
		*d = stmt.ColumnInt64(i)
		return notNull(stmt, i, *d == 0)
	case *int:
		*d = stmt.ColumnInt(i)
		return notNull(stmt, i, *d == 0)
	case **string:
		text := stmt.ColumnRawText(i)
		if text == nil && stmt.ColumnType(i) == sqlite3.NULL {
			*d = nil
			return nil
		}
		s := string(text)
		*d = &s
		return nil
	case **int64:
		if stmt.ColumnType(i) == sqlite3.NULL {
			*d = nil
			return nil
		}
		n := stmt.ColumnInt64(i)
		*d = &n
		return nil
	case *bool:
		*d = stmt.ColumnBool(i)
		return notNull(stmt, i, !*d)
	case *[]byte:
		*d = append([]byte(nil), stmt.ColumnRawBlob(i)...)
		return nil
	case sql.Scanner:
		return fmt.Errorf("a %T reads itself, which this store does not support", dest)
	}
	return columnKind(stmt, i, reflect.ValueOf(dest))
}

// columnKind is column for named types, and for the pointers to them.
func columnKind(stmt *sqlite3.Stmt, i int, dest reflect.Value) error {
	if dest.Kind() != reflect.Pointer || dest.IsNil() {
		return fmt.Errorf("a %s is no place for a column", dest.Type())
	}
	v := dest.Elem()
	null := stmt.ColumnType(i) == sqlite3.NULL
	if v.Kind() == reflect.Pointer {
		if null {
			v.SetZero()
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return column(stmt, i, v.Interface())
	}
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes(append([]byte(nil), stmt.ColumnRawBlob(i)...))
		return nil
	}
	if null {
		return errNull
	}
	switch v.Kind() { //nolint:exhaustive // what is not a column's kind falls through to the error
	case reflect.String:
		v.SetString(stmt.ColumnText(i))
	case reflect.Bool:
		v.SetBool(stmt.ColumnBool(i))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := stmt.ColumnInt64(i)
		if v.OverflowInt(n) {
			return fmt.Errorf("%d does not fit into a %s", n, v.Type())
		}
		v.SetInt(n)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(stmt.ColumnFloat(i))
	default:
		return fmt.Errorf("a %s is no place for a column", dest.Type())
	}
	return nil
}

// notNull tells an honest zero from the zero that stands for NULL.
func notNull(stmt *sqlite3.Stmt, i int, zero bool) error {
	if zero && stmt.ColumnType(i) == sqlite3.NULL {
		return errNull
	}
	return nil
}

// numbered turns $1 into ?1: SQLite reads both, but only the second is bound by its number.
func numbered(query string) string { return strings.ReplaceAll(query, "$", "?") }

// litePool keeps the connections that only read. The one used last is the one used next, so that those nobody needs stay cold.
type litePool struct {
	uri   string
	slots chan struct{}
	mu    sync.Mutex
	free  []*liteConn
	ended bool
}

func newLitePool(uri string, size int) *litePool {
	return &litePool{uri: uri, slots: make(chan struct{}, size)}
}

// query runs a statement on a connection that goes back to the pool when the rows are closed.
func (p *litePool) query(ctx context.Context, query string, args []any) (Rows, error) {
	conn, err := p.acquire(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := conn.query(ctx, query, args)
	if err != nil {
		p.release(conn)
		return nil, err
	}
	rows.done = func() { p.release(conn) }
	return rows, nil
}

func (p *litePool) acquire(ctx context.Context) (*liteConn, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		<-p.slots
		return nil, sql.ErrConnDone
	}
	if n := len(p.free); n > 0 {
		conn := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return conn, nil
	}
	p.mu.Unlock()
	conn, err := openLite(ctx, p.uri)
	if err != nil {
		<-p.slots
	}
	return conn, err
}

func (p *litePool) release(conn *liteConn) {
	p.mu.Lock()
	if p.ended {
		_ = conn.close()
	} else {
		p.free = append(p.free, conn)
	}
	p.mu.Unlock()
	<-p.slots
}

func (p *litePool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for _, conn := range p.free {
		_ = conn.close()
	}
	p.free = nil
}
