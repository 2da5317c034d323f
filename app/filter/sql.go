package filter

import (
	"strings"
	"unicode/utf8"
)

// Condition is a part of a WHERE clause, with ? for each of its values: nothing that somebody wrote stands in its text.
type Condition struct {
	SQL  string
	Args []any
}

// Any holds when one of the term's values does; with Not when none does, and also where the column is empty.
func (t Term) Any(of func(Value) Condition) Condition {
	parts := make([]Condition, len(t.Values))
	for i, v := range t.Values {
		parts[i] = of(v)
	}
	return Either(parts...).Unless(t.Not)
}

// Either holds when one of the conditions does.
func Either(conditions ...Condition) Condition {
	var all Condition
	texts := make([]string, len(conditions))
	for i, c := range conditions {
		texts[i] = c.SQL
		all.Args = append(all.Args, c.Args...)
	}
	all.SQL = strings.Join(texts, " OR ")
	if len(texts) > 1 {
		all.SQL = "(" + all.SQL + ")"
	}
	return all
}

// Unless turns the condition round.
func (c Condition) Unless(not bool) Condition {
	if not {
		c.SQL = "NOT coalesce(" + c.SQL + ", FALSE)"
	}
	return c
}

// Among compares a column whose order is that of bytes, so that its index serves beginnings too.
func (t Term) Among(column string) Condition {
	var whole []string
	var parts []Condition
	for _, v := range t.Values {
		switch {
		case v.Prefix && v.Text == "":
			parts = append(parts, Condition{SQL: column + " IS NOT NULL"})
		case v.Prefix:
			parts = append(parts, Condition{"(" + column + " >= ? AND " + column + " < ?)", []any{v.Text, v.Text + "\U0010FFFF"}})
		default:
			whole = append(whole, v.Text)
		}
	}
	if len(whole) > 0 {
		parts = append(parts, Condition{column + " IN ?", []any{whole}})
	}
	return Either(parts...).Unless(t.Not)
}

// Begins compares an expression of any order with a value, or with its beginning.
func Begins(expr string, v Value) Condition {
	if v.Prefix {
		return Condition{"substr(" + expr + ", 1, ?) = ?", []any{utf8.RuneCountInString(v.Text), v.Text}}
	}
	return Condition{expr + " = ?", []any{v.Text}}
}

// Target compares what was called: node.function, or either of the two by itself. Of an unfinished one only the last part is a beginning.
func Target(v Value) Condition {
	node, function, both := strings.Cut(v.Text, ".")
	switch {
	case both:
		c := Begins("function", Value{Text: function, Prefix: v.Prefix})
		return Condition{"(node_id = ? AND " + c.SQL + ")", append([]any{node}, c.Args...)}
	case v.Prefix:
		return Begins("node_id", v)
	}
	return Condition{"(node_id = ? OR function = ?)", []any{v.Text, v.Text}}
}

// Holds looks for a text anywhere in an expression, in any letter case.
func Holds(expr, text string) Condition {
	escaped := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
	return Condition{"lower(" + expr + `) LIKE lower(?) ESCAPE '\'`, []any{"%" + escaped + "%"}}
}

// Compare puts a number against an expression.
func Compare(expr string, v Value) Condition {
	op := v.Op
	if op == Equal {
		op = "="
	}
	return Condition{expr + " " + string(op) + " ?", []any{v.N}}
}
