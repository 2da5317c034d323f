package database

import (
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm"
)

// ErrBadCursor says that a cursor was not made by this list.
var ErrBadCursor = errors.New("the cursor was not made by this list: start again without it")

// Page is one page of a list, newest first. Next leads to older rows, Prev to newer ones; each is empty when there are none that way.
type Page[T any] struct {
	Rows []T
	Next string
	Prev string
}

// Place is where a row stands in a list that is ordered by (created_at, id).
type Place struct {
	CreatedAt int64
	ID        string
}

// ReadPage reads up to limit rows of q from a cursor on; an empty one begins with the newest. ErrBadCursor when no page gave the cursor.
func ReadPage[T any](q *gorm.DB, cursor string, limit int, place func(T) Place) (Page[T], error) {
	var from position
	if cursor != "" {
		var err error
		if from, err = readCursor(cursor); err != nil {
			return Page[T]{}, err
		}
	}
	var rows []T
	more, err := from.read(q, limit, &rows)
	if err != nil {
		return Page[T]{}, err
	}
	if more {
		rows = rows[:limit]
	}
	if from.newer {
		slices.Reverse(rows)
	}
	page := Page[T]{Rows: rows}
	if len(rows) == 0 {
		return page, nil
	}
	if more || from.newer {
		page.Next = cursorOf(place(rows[len(rows)-1]), false)
	}
	if from.ID != "" && (more || !from.newer) {
		page.Prev = cursorOf(place(rows[0]), true)
	}
	return page, nil
}

// position is a place between two rows and the direction in which a page is read from it.
type position struct {
	Place
	newer bool
}

// read takes the rows of a page and one more, in the direction of reading, and tells whether it found that one.
func (p position) read(q *gorm.DB, limit int, rows any) (more bool, err error) {
	order := "created_at DESC, id DESC"
	switch {
	case p.newer:
		q, order = q.Where("(created_at, id) > (?, ?)", p.CreatedAt, p.ID), "created_at, id"
	case p.ID != "":
		q = q.Where("(created_at, id) < (?, ?)", p.CreatedAt, p.ID)
	}
	found := q.Order(order).Limit(limit + 1).Find(rows)
	return found.RowsAffected > int64(limit), found.Error
}

func cursorOf(p Place, newer bool) string {
	direction := "x1<"
	if newer {
		direction = "x1>"
	}
	return base64.RawURLEncoding.EncodeToString([]byte(direction + ":" + strconv.FormatInt(p.CreatedAt, 10) + ":" + p.ID))
}

func readCursor(text string) (position, error) {
	plain, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return position{}, ErrBadCursor
	}
	parts := strings.SplitN(string(plain), ":", 3)
	if len(parts) != 3 || (parts[0] != "x1<" && parts[0] != "x1>") || parts[2] == "" {
		return position{}, ErrBadCursor
	}
	at, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return position{}, ErrBadCursor
	}
	return position{Place: Place{CreatedAt: at, ID: parts[2]}, newer: parts[0] == "x1>"}, nil
}
