// Package conformance holds the acceptance checks of the requirements as black-box checks against a server. Its one invariant: every
// row of the requirements is in the table, so what is not checked is seen to be unchecked.
package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Row is one requirement and, when it can be shown from outside, how.
type Row struct {
	ID    string
	Title string
	Check func(*Trial)
	By    []string // rows whose checks are this one's
	Why   string   // why there is no check
	Place place
}

// place says where and beside what a check may run.
type place int

const (
	shared   place = iota // on the common server, beside other checks
	quiet                 // on the common server, alone: it measures time
	private               // on a server of its own, beside others
	solitary              // on a server of its own, alone: it needs the whole machine
	last                  // on the common server, after everything else
)

func (p place) ownServer() bool { return p == private || p == solitary }

// Section is a titled part of the table.
type Section struct {
	Title string
	Rows  []Row
}

const notBuilt = "not built yet"

// Select reads a list such as "S1-S8,S15,I3" into the set of ids it names; an empty list names all.
func Select(list string) (func(id string) bool, error) {
	if strings.TrimSpace(list) == "" {
		return func(string) bool { return true }, nil
	}
	var ids []string
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			ids = append(ids, from)
			continue
		}
		span, err := expand(from, to)
		if err != nil {
			return nil, err
		}
		ids = append(ids, span...)
	}
	return func(id string) bool { return slices.Contains(ids, id) }, nil
}

func expand(from, to string) ([]string, error) {
	fromLetters, first, err := split(from)
	if err != nil {
		return nil, err
	}
	toLetters, end, err := split(to)
	if err != nil {
		return nil, err
	}
	if fromLetters != toLetters || first > end {
		return nil, fmt.Errorf("%s-%s is no range of rows", from, to)
	}
	var ids []string
	for n := first; n <= end; n++ {
		ids = append(ids, fromLetters+strconv.Itoa(n))
	}
	return ids, nil
}

func split(id string) (string, int, error) {
	letters := strings.TrimRight(id, "0123456789")
	n, err := strconv.Atoi(id[len(letters):])
	if letters == "" || err != nil {
		return "", 0, fmt.Errorf("%q is no id of a row", id)
	}
	return letters, n, nil
}
