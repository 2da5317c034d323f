package values

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Change is one difference between two JSON values.
type Change struct {
	Path   string // of the value: claim.items[2].amount; empty: the whole
	Kind   ChangeKind
	Before string // as people read it; empty when it was added
	After  string // empty when it was removed
}

// ChangeKind says what happened to a value.
type ChangeKind string

// The kinds of a change.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Diff lists what differs between two JSON bodies, by path, in the order of the second. Members of objects are compared by name,
// elements of arrays by their place, after what is equal at both ends. A body that is missing or not JSON is compared as a whole.
func Diff(before, after []byte) []Change {
	was, errWas := parse(before)
	is, errIs := parse(after)
	if errWas != nil || errIs != nil {
		return wholeDiff(string(before), string(after))
	}
	var d differ
	d.compare("", was, is)
	return d.changes
}

func wholeDiff(before, after string) []Change {
	switch {
	case before == after:
		return nil
	case before == "":
		return []Change{{Kind: Added, After: after}}
	case after == "":
		return []Change{{Kind: Removed, Before: before}}
	}
	return []Change{{Kind: Changed, Before: before, After: after}}
}

type differ struct{ changes []Change }

func (d *differ) compare(path string, was, is *Value) {
	switch {
	case was.Equal(is):
	case was.kind == object && is.kind == object:
		d.objects(path, was, is)
	case was.kind == array && is.kind == array:
		d.arrays(path, was, is)
	default:
		d.changes = append(d.changes, Change{path, Changed, was.shown(), is.shown()})
	}
}

func (d *differ) objects(path string, was, is *Value) {
	for _, m := range is.members {
		if old := was.Get(m.name); old != nil {
			d.compare(within(path, m.name), old, m.value)
		} else {
			d.added(within(path, m.name), m.value)
		}
	}
	for _, m := range was.members {
		if is.Get(m.name) == nil {
			d.removed(within(path, m.name), m.value)
		}
	}
}

func (d *differ) arrays(path string, was, is *Value) {
	old, now := was.items, is.items
	head := 0
	for head < len(old) && head < len(now) && old[head].Equal(now[head]) {
		head++
	}
	for len(old) > head && len(now) > head && old[len(old)-1].Equal(now[len(now)-1]) {
		old, now = old[:len(old)-1], now[:len(now)-1]
	}
	for i := head; i < max(len(old), len(now)); i++ {
		at := path + "[" + strconv.Itoa(i) + "]"
		switch {
		case i >= len(old):
			d.added(at, now[i])
		case i >= len(now):
			d.removed(at, old[i])
		default:
			d.compare(at, old[i], now[i])
		}
	}
}

func (d *differ) added(path string, v *Value) {
	d.changes = append(d.changes, Change{Path: path, Kind: Added, After: v.shown()})
}

func (d *differ) removed(path string, v *Value) {
	d.changes = append(d.changes, Change{Path: path, Kind: Removed, Before: v.shown()})
}

// within is the path of a member. A name that is not a word is quoted, so that a path can always be read back.
func within(path, name string) string {
	word := name != "" && strings.IndexFunc(name, func(r rune) bool { return r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) < 0
	switch {
	case !word:
		return path + "[" + strconv.Quote(name) + "]"
	case path == "":
		return name
	}
	return path + "." + name
}

// piece is a part of a text that was changed; Mark: it is what differs.
type piece struct {
	text string
	mark bool
}

const comparedWords = 400

// words compares two texts by word and marks on either side what the other does not have. Texts that are too long, or that have
// hardly a word in common, are marked as a whole: nobody could read the patchwork.
func words(before, after string) (was, is []piece) {
	a, b := split(before), split(after)
	if len(a) > comparedWords || len(b) > comparedWords {
		return []piece{{before, true}}, []piece{{after, true}}
	}
	common := longestCommon(a, b)
	if len(common)*3 < min(len(a), len(b)) || len(a) < 6 || len(b) < 6 {
		return []piece{{before, true}}, []piece{{after, true}}
	}
	var inA, inB []int
	for _, pair := range common {
		inA, inB = append(inA, pair[0]), append(inB, pair[1])
	}
	return marked(a, inA), marked(b, inB)
}

// split cuts a text into words and what is between them.
func split(s string) []string {
	var parts []string
	start, last := 0, -1
	for i, r := range s {
		class := 0
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			class = 1
		case unicode.IsSpace(r):
			class = 2
		}
		if last >= 0 && (class != last || class == 0) {
			parts = append(parts, s[start:i])
			start = i
		}
		last = class
	}
	if start < len(s) {
		parts = append(parts, s[start:])
	}
	return parts
}

// short reports whether both sides fit beside each other.
func (c Change) short() bool { return len(c.Before)+len(c.After) < 60 }

// longestCommon are the places of the longest sequence that both have, in order.
func longestCommon(a, b []string) [][2]int {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i, v := range slices.Backward(a) {
		for j := len(b) - 1; j >= 0; j-- {
			if v == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var common [][2]int
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			common = append(common, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return common
}

func marked(parts []string, kept []int) []piece {
	var pieces []piece
	for i, k := 0, 0; i < len(parts); i++ {
		mark := k >= len(kept) || kept[k] != i
		if !mark {
			k++
		}
		if n := len(pieces); n > 0 && pieces[n-1].mark == mark {
			pieces[n-1].text += parts[i]
		} else {
			pieces = append(pieces, piece{parts[i], mark})
		}
	}
	return pieces
}
