package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes. In text it may carry a unit: KiB, MiB or GiB.
type Size int

type unit struct {
	suffix string
	bytes  int
}

// sizeUnits lists the units from the largest; plain bytes come last.
func sizeUnits() []unit {
	return []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}
}

// ParseSize reads "10MiB", "512 KiB" or a plain number of bytes.
func ParseSize(text string) (Size, error) {
	for _, u := range sizeUnits() {
		number, found := strings.CutSuffix(text, u.suffix)
		if !found {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || n < 0 || n > (1<<62)/u.bytes {
			break
		}
		return Size(n * u.bytes), nil
	}
	return 0, fmt.Errorf("%q is not a size: write bytes, or a number with KiB, MiB or GiB, as in 10MiB", text)
}

// String writes the size in the largest unit that leaves no remainder.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && u.bytes > 1 && int(s)%u.bytes == 0 {
			return strconv.Itoa(int(s)/u.bytes) + u.suffix
		}
	}
	return strconv.Itoa(int(s))
}

// MarshalText writes the size as the file has it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Set makes *Size a flag value.
func (s *Size) Set(text string) error {
	parsed, err := ParseSize(text)
	if err == nil {
		*s = parsed
	}
	return err
}

// Type names the kind of value in the help text of a flag.
func (s *Size) Type() string { return "size" }
