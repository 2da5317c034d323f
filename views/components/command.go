package components

import "strings"

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
