// Package search holds the parts that lists have in common: the box in which a filter is typed, what it understood, what it did not,
// and how the list can be taken along or kept under a name. Its invariant: all of them are links and forms made from the address.
package search

// Typed is a filter as somebody wrote it.
type Typed struct {
	Text     string
	Terms    []Term
	Problems []Problem
	Keys     []Key
}

// Term is a part that was understood.
type Term struct {
	Text string
	Rest string // the filter without it
}

// Problem is a part that was not. The rest of the filter holds all the same.
type Problem struct {
	Before, Wrong, After string // the text, cut at the mistake
	Text                 string
	Fixed                string // the text as it was probably meant; may be empty
}

// Key is a word of the language, with what may stand after it.
type Key struct {
	Name, Hint string
	Words      []string
}

// offers are the beginnings of terms that the browser's own list shows without script.
func (t Typed) offers() []string {
	var all []string
	for _, k := range t.Keys {
		for _, w := range k.Words {
			all = append(all, k.Name+":"+w)
		}
		if len(k.Words) == 0 {
			all = append(all, k.Name+":")
		}
	}
	return all
}

// file is a form in which a list can be taken along.
type file struct{ suffix, label string }

func forms() []file {
	return []file{{"csv", "CSV for a spreadsheet"}, {"ndjson", "NDJSON, one a line"}, {"json", "JSON"}}
}

func address(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}
