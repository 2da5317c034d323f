package execution

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

const fingerprinted = 600 // bytes of a message that count: what follows is mostly a trace

// fingerprint is the same for errors that differ only in what changes from call to call: fp_ and ten hexadecimal digits.
func fingerprint(code, message string) string {
	sum := sha256.Sum256([]byte(code + "\x00" + normalised(message)))
	return "fp_" + hex.EncodeToString(sum[:5])
}

// normalised writes # for numbers, ids, addresses and whatever else has a digit in it, … for what stands in quotes, and one space for
// any number of them, all in small letters.
func normalised(message string) string {
	if len(message) > fingerprinted {
		message = message[:fingerprinted]
	}
	message = strings.ToValidUTF8(message, "")
	var b strings.Builder
	before := ' '
	for len(message) > 0 {
		r, size := utf8.DecodeRuneInString(message)
		switch {
		case quote(r) && !(r == '\'' && unicode.IsLetter(before)) && closed(message[size:], r) >= 0:
			size += closed(message[size:], r) + utf8.RuneLen(r)
			b.WriteString("“…”")
		case unicode.IsSpace(r):
			if before != ' ' {
				b.WriteByte(' ')
			}
			r = ' '
		case part(r):
			size = strings.IndexFunc(message, func(r rune) bool { return !part(r) })
			if size < 0 {
				size = len(message)
			}
			r = 'x' // a word came before what follows
			b.WriteString(constant(message[:size]))
		default:
			b.WriteRune(unicode.ToLower(r))
		}
		before, message = r, message[size:]
	}
	return strings.TrimSpace(b.String())
}

func quote(r rune) bool { return r == '"' || r == '\'' || r == '`' }

// closed is where a quote ends, -1 when it does not.
func closed(rest string, r rune) int { return strings.IndexRune(rest, r) }

// part reports whether a letter or sign can stand in a number, an id or an address.
func part(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-.:@/%", r)
}

// constant is a word, or # in the place of one that is another each time.
func constant(word string) string {
	const hash = 8 // letters from a to f only, this many: a hash without a digit
	letters := strings.Trim(word, "-.:@/%_")
	switch {
	case strings.ContainsFunc(word, unicode.IsDigit), len(letters) >= hash && strings.Trim(strings.ToLower(letters), "abcdef") == "":
		head := word[:len(word)-len(strings.TrimLeft(word, ":/@%"))]
		tail := word[len(strings.TrimRight(word, ".:/@%")):]
		return head + "#" + tail
	}
	return strings.ToLower(word)
}
