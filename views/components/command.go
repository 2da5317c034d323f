package components

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Command is a request to be typed into a terminal.
type Command struct {
	Method  string // empty: GET
	URL     string
	Headers []string // whole lines, as in "X-Session-ID: s1"
	Body    string   // JSON; empty: none
}

// Curl writes the command for a POSIX shell, one option per line. Whatever is in it reaches the server as it is.
func (c Command) Curl() string {
	lines := []string{"curl " + quote(c.URL)}
	if c.Method != "" {
		lines[0] = "curl -X " + c.Method + " " + quote(c.URL)
	}
	if c.Body != "" {
		lines = append(lines, "-H 'Content-Type: application/json'")
	}
	for _, header := range c.Headers {
		lines = append(lines, "-H "+quote(header))
	}
	if c.Body != "" {
		lines = append(lines, "-d "+quote(c.Body))
	}
	return strings.Join(lines, " \\\n  ")
}

// quote makes one word of the shell. Plain addresses stay bare, because they read better.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~:/@%+,=", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// FirstCall is a command that makes an execution on a server: of the given function, or of the one that the guides use.
func FirstCall(base, target string) string {
	body := `{"input": {}}`
	if target == "" {
		target, body = "hello-world.greet", `{"input": {"name": "Ada"}}`
	}
	return Command{Method: "POST", URL: base + "/api/v1/execute/async/" + target, Body: body}.Curl()
}

// Quoted is a text as a JSON string.
func Quoted(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil { // strings always marshal
		return `""`
	}
	return string(quoted)
}

// pairs are the headers as names and values, the type of the body first.
func (c Command) pairs() [][2]string {
	var all [][2]string
	if c.Body != "" {
		all = append(all, [2]string{"Content-Type", "application/json"})
	}
	for _, line := range c.Headers {
		name, value, _ := strings.Cut(line, ":")
		all = append(all, [2]string{name, strings.TrimSpace(value)})
	}
	return all
}

// method is GET unless it says another.
func (c Command) method() string {
	if c.Method == "" {
		return "GET"
	}
	return c.Method
}

// single is a text as a literal of Python and of JavaScript, which read these escapes alike. JSON stays readable in it.
func single(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\r", `\r`, "\u2028", `\u2028`, "\u2029", `\u2029`).Replace(text) + "'"
}

// Python writes the request as a program that needs nothing but Python 3.
func (c Command) Python() string {
	var b strings.Builder
	b.WriteString("import json\nimport urllib.request\n\nrequest = urllib.request.Request(\n    " + single(c.URL) + ",\n    method=" + single(c.method()) + ",\n    headers={")
	for i, h := range c.pairs() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(single(h[0]) + ": " + single(h[1]))
	}
	b.WriteString("},\n")
	if c.Body != "" {
		b.WriteString("    data=" + single(c.Body) + ".encode(),\n")
	}
	b.WriteString(")\nwith urllib.request.urlopen(request) as response:\n    print(json.load(response))\n")
	return b.String()
}

// JavaScript writes the request as a module for Node and browsers.
func (c Command) JavaScript() string {
	var b strings.Builder
	b.WriteString("const response = await fetch(" + single(c.URL) + ", {\n  method: " + single(c.method()) + ",\n  headers: {")
	for i, h := range c.pairs() {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(" " + single(h[0]) + ": " + single(h[1]))
	}
	b.WriteString(" },\n")
	if c.Body != "" {
		b.WriteString("  body: " + single(c.Body) + ",\n")
	}
	b.WriteString("});\nconsole.log(await response.json());\n")
	return b.String()
}

// Go writes the request as a program of its own.
func (c Command) Go() string {
	var b strings.Builder
	imports, body := []string{"fmt", "io", "log", "net/http"}, "nil"
	if c.Body != "" {
		imports, body = append(imports, "strings"), "strings.NewReader("+raw(c.Body)+")"
	}
	b.WriteString("package main\n\nimport (\n")
	for _, name := range imports {
		b.WriteString("\t" + strconv.Quote(name) + "\n")
	}
	b.WriteString(")\n\nfunc main() {\n\trequest, err := http.NewRequest(" + strconv.Quote(c.method()) + ", " + strconv.Quote(c.URL) + ", " + body + ")\n")
	b.WriteString("\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n")
	for _, h := range c.pairs() {
		b.WriteString("\trequest.Header.Set(" + strconv.Quote(h[0]) + ", " + strconv.Quote(h[1]) + ")\n")
	}
	b.WriteString("\tresponse, err := http.DefaultClient.Do(request)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n\tdefer response.Body.Close()\n")
	b.WriteString("\tanswer, err := io.ReadAll(response.Body)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n\tfmt.Println(string(answer))\n}\n")
	return b.String()
}

// raw is a text as a literal of Go, as it reads best.
func raw(text string) string {
	if strconv.CanBackquote(text) {
		return "`" + text + "`"
	}
	return strconv.Quote(text)
}
