package components

import "time"

// Tab is a view of a list that has a name.
type Tab struct {
	Label   string
	Href    string
	Current bool
	Count   int  // 0: not shown
	More    bool // there are more than Count
}

// Chip is a filter that is set, with the address of the list without it. What was typed has no key.
type Chip struct{ Key, Words, Href string }

// Name is what the link that takes it away is called.
func (c Chip) Name() string {
	if c.Key == "" {
		return c.Words
	}
	return c.Key
}

// Fresh says how many rows are newer than a list that is on screen.
type Fresh struct {
	Href  string // the list with them
	Count int    // newer than the list's first row, under its filter
	More  bool   // there are more than were counted
	At    int64  // ms: when the list on screen was true
}

// Pager is the foot of a page of a list. Addresses that are empty are not offered.
type Pager struct {
	Rows  int
	Curl  string // reads the same list from the API
	First string
	Prev  string
	Next  string
	Now   time.Time
}
