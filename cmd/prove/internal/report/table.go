package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Table is a plain text table: a header, rows, columns as wide as their widest cell.
type Table struct {
	header []string
	rows   [][]string
}

// NewTable returns a table with the given column names.
func NewTable(header ...string) *Table { return &Table{header: header} }

// Add appends a row; missing cells are empty.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Section appends a line that spans all columns.
func (t *Table) Section(title string) { t.rows = append(t.rows, []string{"\x00" + title}) }

// Write prints the table.
func (t *Table) Write(w io.Writer) error {
	widths := t.widths()
	var out strings.Builder
	writeRow(&out, t.header, widths)
	for i, width := range widths {
		widths[i] = max(width, 1)
	}
	rule := make([]string, len(widths))
	for i, width := range widths {
		rule[i] = strings.Repeat("-", width)
	}
	writeRow(&out, rule, widths)
	for _, row := range t.rows {
		if title, ok := sectionTitle(row); ok {
			out.WriteString("\n" + title + "\n")
			continue
		}
		writeRow(&out, row, widths)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (t *Table) widths() []int {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		if _, ok := sectionTitle(row); ok {
			continue
		}
		for i, cell := range row {
			if i < len(widths) {
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
	}
	return widths
}

func sectionTitle(row []string) (string, bool) {
	if len(row) == 1 && strings.HasPrefix(row[0], "\x00") {
		return row[0][1:], true
	}
	return "", false
}

func writeRow(out *strings.Builder, cells []string, widths []int) {
	var line strings.Builder
	for i, width := range widths {
		cell := ""
		if i < len(cells) {
			cell = cells[i]
		}
		line.WriteString(cell)
		line.WriteString(strings.Repeat(" ", width-utf8.RuneCountInString(cell)+2))
	}
	out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// Rate writes how often something happens per second.
func Rate(perSecond float64) string {
	if perSecond >= 100 {
		return thousands(int64(perSecond+0.5)) + "/s"
	}
	return trimFloat(perSecond, 1) + "/s"
}

// Count writes a number with thin groups of three digits.
func Count(n int) string { return thousands(int64(n)) }

// MB writes bytes as megabytes.
func MB(bytes int64) string { return trimFloat(float64(bytes)/1e6, 1) + " MB" }

func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, groups...), ",")
}

func trimFloat(f float64, decimals int) string { return fmt.Sprintf("%.*f", decimals, f) }
