package migrations_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm/schema"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/migrations"
	"github.com/agentfield/agentfield/models"
)

// rows are all models that are rows of a table.
var rows = []any{
	models.Replica{},
	models.Setting{},
	models.Node{},
	models.Function{},
	models.Instance{},
	models.NodeQueue{},
	models.FunctionQueue{},
	models.Execution{},
	models.ExecutionPayload{},
	models.RunAlias{},
	models.IdempotencyKey{},
	models.Event{},
	models.Notice{},
	models.WebhookRegistration{},
	models.WebhookDelivery{},
	models.WebhookAttempt{},
	models.WebhookEndpoint{},
	models.WebhookHost{},
	models.User{},
	models.Session{},
	models.APIKey{},
	models.SignInLimit{},
	models.AuditEntry{},
	models.AuditHead{},
	models.Approval{},
	models.ApprovalBody{},
	models.ApprovalVote{},
	models.Draft{},
	models.SavedView{},
	models.Notification{},
	models.Run{},
	models.ExecutionLog{},
	models.ExecutionLogBook{},
	models.Memory{},
	models.LastSeen{},
	models.BulkJob{},
	models.BulkItem{},
}

// Every struct of the package models with a primary key is in rows: nobody may forget to add one.
func TestEveryModelIsCompared(t *testing.T) {
	known := map[string]bool{}
	for _, row := range rows {
		known[reflect.TypeOf(row).Name()] = true
	}
	packages, err := parser.ParseDir(token.NewFileSet(), "../models", nil, 0) //nolint:staticcheck // one folder without build tags is all there is to read
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range packages["models"].Files {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if body, ok := spec.Type.(*ast.StructType); ok && hasKey(body) {
				found++
				if !known[spec.Name.Name] {
					t.Errorf("models.%s is compared with no table", spec.Name.Name)
				}
			}
			return true
		})
	}
	if found < len(rows) {
		t.Errorf("found %d models, %d are listed", found, len(rows))
	}
}

func hasKey(body *ast.StructType) bool {
	return slices.ContainsFunc(body.Fields.List, func(f *ast.Field) bool { return f.Tag != nil && strings.Contains(f.Tag.Value, "primaryKey") })
}

type column struct{ nullable, key bool }

// tables reads the schema as it is, in the words of each engine.
func tables(t *testing.T, db *database.DB) map[string]map[string]column {
	t.Helper()
	query := `SELECT m.name, c.name, c."notnull" = 0 AND c.pk = 0, c.pk > 0 FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'
		AND m.name NOT LIKE 'sqlite_%'`
	if db.Postgres() {
		query = `SELECT c.table_name, c.column_name, c.is_nullable = 'YES', EXISTS (SELECT 1 FROM information_schema.table_constraints k
			JOIN information_schema.key_column_usage u USING (constraint_schema, constraint_name) WHERE k.constraint_type = 'PRIMARY KEY'
			AND k.table_schema = c.table_schema AND k.table_name = c.table_name AND u.column_name = c.column_name)
			FROM information_schema.columns c WHERE c.table_schema = current_schema()`
	}
	found, err := db.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	all := map[string]map[string]column{}
	for found.Next() {
		var table, name string
		var c column
		if err := found.Scan(&table, &name, &c.nullable, &c.key); err != nil {
			t.Fatal(err)
		}
		if all[table] == nil {
			all[table] = map[string]column{}
		}
		all[table][name] = c
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	delete(all, "goose_db_version")
	return all
}

// fromNothing runs fn with a database on which no migration has run.
func fromNothing(t *testing.T, fn func(t *testing.T, c database.Config)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		if c.URL == "" {
			c.DataDir = t.TempDir()
		}
		fn(t, c)
	})
}

func TestModelsAndTablesAgree(t *testing.T) {
	fromNothing(t, func(t *testing.T, c database.Config) {
		db := dbtest.Open(t, c)
		all := tables(t, db)
		for _, row := range rows {
			model, err := schema.Parse(row, &sync.Map{}, schema.NamingStrategy{})
			if err != nil {
				t.Fatal(err)
			}
			table, exists := all[model.Table]
			delete(all, model.Table)
			if !exists {
				t.Errorf("%s has no table %s", model.Name, model.Table)
				continue
			}
			for _, name := range model.DBNames {
				c, exists := table[name]
				delete(table, name)
				field := model.FieldsByDBName[name]
				switch {
				case !exists:
					t.Errorf("%s.%s has no column %s", model.Name, field.Name, name)
				case c.key != field.PrimaryKey:
					t.Errorf("%s.%s: primary key %t in the model, %t in the table", model.Name, field.Name, field.PrimaryKey, c.key)
				case c.nullable && !canBeNil(field.FieldType):
					t.Errorf("%s.%s cannot hold the NULL that its column may have", model.Name, field.Name)
				case !c.nullable && field.FieldType.Kind() == reflect.Pointer:
					t.Errorf("%s.%s may be nil, its column may not", model.Name, field.Name)
				}
			}
			for name := range table {
				t.Errorf("column %s.%s is in no model", model.Table, name)
			}
		}
		for name := range all {
			t.Errorf("table %s has no model", name)
		}
	})
}

func canBeNil(t reflect.Type) bool { return t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice }

func TestUpTwiceIsUpOnce(t *testing.T) {
	fromNothing(t, func(t *testing.T, c database.Config) {
		first := dbtest.Open(t, c)
		steps, err := first.Migrations(t.Context())
		if err != nil || len(steps) == 0 {
			t.Fatalf("%v, %v", steps, err)
		}
		for _, s := range steps {
			if !s.Applied {
				t.Errorf("%s is not applied", s.Name)
			}
		}
		before := tables(t, first)
		first.Close()
		second := dbtest.Open(t, c)
		if after := tables(t, second); !reflect.DeepEqual(before, after) {
			t.Errorf("%v became %v", before, after)
		}
	})
}

// Replicas that start together migrate once.
func TestReplicasStartTogether(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		if c.URL == "" {
			return // one process has the file: see database
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				db, err := database.Open(context.Background(), c)
				if err != nil {
					t.Error(err)
					return
				}
				db.Close()
			})
		}
		wg.Wait()
	})
}

func TestANewerSchemaIsLeftAlone(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		db := dbtest.Open(t, c)
		if err := db.Tx(t.Context(), func(tx *database.Tx) error {
			_, err := tx.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		db.Close()
		again, err := database.Open(t.Context(), c)
		if !errors.Is(err, migrations.ErrNewerSchema) {
			t.Errorf("a newer schema: %v", err)
		}
		if err == nil {
			again.Close()
		}
	})
}

// The statuses that the tables let in are those of models/status.go.
func TestTheTableKnowsTheStatusesOfTheModels(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		insert := func(status models.Status) error {
			return db.Tx(t.Context(), func(tx *database.Tx) error {
				_, err := tx.Exec(t.Context(), `INSERT INTO executions (id, run_id, node_id, function, function_kind, mode, status, available_at, attempt,
					failures, max_attempts, redeliveries, has_webhook, created_at, input_bytes, result_bytes)
					VALUES ($1, '', '', '', '', 'sync', $2, 0, 0, 0, 0, 0, false, 0, 0, 0)`, "exec_"+string(status), string(status))
				return err
			})
		}
		for _, status := range models.Statuses {
			if err := insert(status); err != nil {
				t.Errorf("%s: %v", status, err)
			}
		}
		for _, word := range []models.Status{"", "completed", "Running", "running ", "canceled", "unknown"} {
			if insert(word) == nil {
				t.Errorf("the table took %q", word)
			}
		}
	})
}
