package filter

import (
	"slices"
	"strings"

	"github.com/agentfield/agentfield/models"
)

// Kind is what the values of a key are.
type Kind int

// The kinds of values.
const (
	Word     Kind = iota // compared as a whole, or with * by its beginning
	Text                 // looked for anywhere in a text
	Choice               // one of a few words
	Number               // compared
	Duration             // compared: 250ms, 10s, 5m, 2h, 7d
	Instant              // compared: 2026-01-31 or RFC 3339
)

// Key is a word that may stand before the colon.
type Key struct {
	Name  string
	Also  string // another name
	Kind  Kind
	Words []string          // of a Choice
	Alias map[string]string // other words for them
	Hint  string            // what to write, for people
}

// Language is what can be asked of one list.
type Language []Key

// Executions is the language of the list of executions.
func Executions() Language {
	return Language{
		{Name: "status", Kind: Choice, Words: statusWords(models.Statuses), Alias: map[string]string{"completed": string(models.Succeeded)}, Hint: "failed,timeout"},
		{Name: "target", Kind: Word, Hint: "node.function"},
		{Name: "node", Kind: Word, Hint: "support-*"},
		{Name: "reasoner", Also: "function", Kind: Word, Hint: "name of the function"},
		{Name: "error", Kind: Text, Hint: `"no route to host"`},
		{Name: "code", Kind: Word, Hint: "agent_timeout"},
		{Name: "dur", Kind: Duration, Hint: ">10s"},
		{Name: "age", Kind: Duration, Hint: "<1h"},
		{Name: "started", Kind: Instant, Hint: ">2026-01-31"},
		{Name: "session", Kind: Word, Hint: "as sent in X-Session-ID"},
		{Name: "actor", Kind: Word, Hint: "as sent in X-Actor-ID"},
		{Name: "caller", Kind: Word, Hint: "the node that called"},
		{Name: "run", Kind: Word, Hint: "a run or workflow id"},
		{Name: "parent", Kind: Word, Hint: "an execution id"},
		{Name: "id", Kind: Word, Hint: "exec_…, several with commas"},
		{Name: "mode", Kind: Choice, Words: []string{"sync", "async"}, Hint: "sync or async"},
		{Name: "has", Kind: Choice, Words: []string{"webhook", "approval", "note", "error", "parent"}, Hint: "webhook, approval, note, error, parent"},
		{Name: "attempt", Kind: Number, Hint: ">1"},
	}
}

// Runs is the language of the list of runs.
func Runs() Language {
	words := []models.Status{models.Running, models.Waiting, models.Succeeded, models.Failed, models.Timeout, models.Cancelled}
	return Language{
		{Name: "status", Kind: Choice, Words: statusWords(words), Alias: map[string]string{"completed": string(models.Succeeded)}, Hint: "failed,timeout"},
		{Name: "target", Kind: Word, Hint: "node.function of the root"},
		{Name: "node", Kind: Word, Hint: "support-*"},
		{Name: "reasoner", Also: "function", Kind: Word, Hint: "name of the root's function"},
		{Name: "dur", Kind: Duration, Hint: ">10s"},
		{Name: "age", Kind: Duration, Hint: "<1h"},
		{Name: "started", Kind: Instant, Hint: ">2026-01-31"},
		{Name: "session", Kind: Word, Hint: "as sent in X-Session-ID"},
		{Name: "actor", Kind: Word, Hint: "as sent in X-Actor-ID"},
		{Name: "run", Also: "id", Kind: Word, Hint: "a run or workflow id"},
		{Name: "steps", Kind: Number, Hint: ">50"},
		{Name: "failed", Kind: Number, Hint: ">0"},
		{Name: "waiting", Kind: Number, Hint: ">0"},
	}
}

func statusWords(statuses []models.Status) []string {
	words := make([]string, len(statuses))
	for i, s := range statuses {
		words[i] = string(s)
	}
	return words
}

// Key finds a key by either of its names.
func (l Language) Key(name string) (Key, bool) {
	i := slices.IndexFunc(l, func(k Key) bool { return k.Name == name || k.Also == name && name != "" })
	if i < 0 {
		return Key{}, false
	}
	return l[i], true
}

func (l Language) names() string {
	names := make([]string, len(l))
	for i, k := range l {
		names[i] = k.Name
	}
	return strings.Join(names, ", ")
}

// nearest is the key that a word was probably meant to be; "" when none is near.
func (l Language) nearest(word string) string {
	best, at := "", 3
	for _, k := range l {
		for _, name := range []string{k.Name, k.Also} {
			if name == "" {
				continue
			}
			d := distance(word, name)
			if len(word) > 1 && strings.HasPrefix(name, word) {
				d = 1
			}
			if d < at && d < max(len(name), len(word)) {
				best, at = name, d
			}
		}
	}
	return best
}

// distance counts the letters to change, add or leave out, or to swap with their neighbour, between two words.
func distance(a, b string) int {
	if len(a) > 40 {
		return len(a)
	}
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// Corrected is a text with the key of a problem replaced by the one that was probably meant.
func Corrected(text string, p Problem) string {
	token := text[p.At:p.End]
	name := strings.TrimPrefix(token, "-")
	end := strings.IndexAny(name, ":<>")
	if p.Near == "" || end < 0 {
		return text
	}
	return text[:p.At] + token[:len(token)-len(name)] + p.Near + name[end:] + text[p.End:]
}
