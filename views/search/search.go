// Package search holds the parts that lists have in common: the box in which a filter is typed, what it understood, what it did not,
// and how the list can be taken along or kept under a name. Its invariant: all of them are links and forms made from the address.
package search

import (
	"slices"
	"strings"

	"github.com/agentfield/agentfield/views/components"
)

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

// Views are the saved views of a list.
type Views struct {
	List     string // executions, …: also the first part of the address
	Query    string // what the list is narrowed to now
	Own      []View
	Current  *View // the one that the address names; nil: none
	Mine     bool  // it is the visitor's own
	Modified bool  // what is shown is no longer what it keeps
}

// View is a filter under a name.
type View struct {
	ID, Name string
	Count    int // what it finds; -1: not counted
	Limit    int // there the counting stopped
}

func (v View) href(list string) string { return "/" + list + "?view=" + v.ID }

func (v View) count() string {
	if v.Count >= v.Limit {
		return components.Number(v.Limit) + "+"
	}
	return components.Number(v.Count)
}

// tabs are the first of the views, which stand beside the statuses; the current one is always among them.
func (v Views) tabs() []View {
	const shown = 4
	tabs := slices.Clone(v.Own[:min(len(v.Own), shown)])
	if v.Current != nil && !slices.ContainsFunc(tabs, v.is) {
		tabs = append(tabs, *v.Current)
	}
	return tabs
}

func (v Views) is(one View) bool { return v.Current != nil && v.Current.ID == one.ID }

// name is what the form offers: the current view again, when it is the visitor's and was changed.
func (v Views) name() string {
	if v.Current != nil && v.Mine {
		return v.Current.Name
	}
	return ""
}

// GroupQuery is the filter that finds a group of failures.
func GroupQuery(group, target string) string {
	if strings.ContainsAny(target, " \",*") {
		target = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(target) + `"`
	}
	return "error:#" + group + " target:" + target
}

func act(list, action, query string) string {
	return address("/bulk/new", strings.TrimSuffix("list="+list+"&action="+action+"&"+query, "&"))
}
