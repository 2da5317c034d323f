// Package components holds the parts that pages are made of: statuses, times, ids, payloads, snippets, empty states. They take plain
// data and draw it the same way everywhere; none of them asks for anything.
package components

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Span writes a duration for people: 743 ms, 5.8 s, 42 s, 4 min 12 s, 3 h 12 min, 2 d 3 h. The script in static/src/time.ts writes
// them the same way.
func Span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 10*time.Second:
		return strconv.FormatFloat(float64(d/(100*time.Millisecond))/10, 'f', 1, 64) + " s"
	case d < time.Minute:
		return strconv.FormatInt(int64(d/time.Second), 10) + " s"
	case d < time.Hour:
		return pair(d, time.Minute, "min", time.Second, "s")
	case d < day:
		return pair(d, time.Hour, "h", time.Minute, "min")
	}
	return pair(d, day, "d", time.Hour, "h")
}

func pair(d, large time.Duration, largeUnit string, small time.Duration, smallUnit string) string {
	whole := fmt.Sprintf("%d %s", d/large, largeUnit)
	if rest := d % large / small; rest > 0 {
		whole += fmt.Sprintf(" %d %s", rest, smallUnit)
	}
	return whole
}

// running writes a time that still grows, in whole seconds and steps that grow with it.
func running(d time.Duration) string {
	step := time.Minute
	switch {
	case d < time.Minute:
		step = time.Second
	case d < 5*time.Minute:
		step = 5 * time.Second
	case d < time.Hour:
		step = 30 * time.Second
	}
	d = max(d, 0) / step * step
	if d < 10*time.Second {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return Span(d)
}

// age writes how long ago an instant was.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < day:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d d ago", d/day)
}

// Number writes a count with its thousands apart.
func Number(n int) string {
	digits := strconv.Itoa(n)
	var b strings.Builder
	for i, r := range digits {
		if i > 0 && digits[i-1] != '-' && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Decimal writes a number with one decimal where it is small enough for that to matter.
func Decimal(f float64) string {
	if f >= 100 || f == math.Trunc(f) {
		return Number(int(math.Round(f)))
	}
	return strconv.FormatFloat(f, 'f', 1, 64)
}

// Plural is the count and its noun: 1 execution, 2 executions.
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Number(n) + " " + noun + "s"
}

// Size writes a number of bytes.
func Size(n int) string {
	switch {
	case n < 1024:
		return Plural(n, "byte")
	case n < 1024*1024:
		return fmt.Sprintf("%.1f KiB", float64(n)/1024)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1024*1024))
}

// ShortID keeps the kind of an id and its last characters, which are the random ones.
func ShortID(id string) string {
	const tail = 8
	if len(id) <= 18 {
		return id
	}
	kind, _, _ := strings.Cut(id, "_")
	if len(kind) == len(id) || len(kind) > 6 {
		return "…" + id[len(id)-tail:]
	}
	return kind + "_…" + id[len(id)-tail:]
}

// FirstLine is the beginning of a text, for one row of a list.
func FirstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	const most = 200
	if runes := []rune(line); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return line
}

// Instant is the time of a number of milliseconds since 1970.
func Instant(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Since is the time that has passed from an instant (ms) until now.
func Since(ms int64, now time.Time) time.Duration { return now.Sub(Instant(ms)) }
