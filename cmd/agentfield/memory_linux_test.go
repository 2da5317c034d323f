package main

import (
	"bufio"
	"strings"
	"testing"
)

func TestOnlyPagesThatWereNeverWrittenAreGivenBack(t *testing.T) {
	t.Parallel()
	const maps = `00400000-01780000 r-xp 00000000 fe:00 123 /bin/agentfield
Size:              19968 kB
Anonymous:         0 kB
01780000-02a00000 r--p 01380000 fe:00 123 /bin/agentfield
Anonymous:         4 kB
02a00000-02b80000 rw-p 02600000 fe:00 123 /bin/agentfield
Anonymous:         0 kB
7f00000000-7f00001000 r-xp 00000000 fe:00 9 /lib/libc.so
Anonymous:         0 kB
7f00002000-7f00003000 rw-p 00000000 00:00 0
Anonymous:         0 kB
`
	got := cleanMappings(bufio.NewScanner(strings.NewReader(maps)), "/bin/agentfield")
	if len(got) != 1 || got[0] != (mapping{0x00400000, 0x01780000}) {
		t.Fatalf("%d mappings would be given back, not only the first", len(got))
	}
}

func TestTheProgramGoesOnAfterItsPagesWereGivenBack(t *testing.T) {
	t.Parallel()
	restAfterStart()
	if got := strings.Repeat("ab", 3); got != "ababab" {
		t.Fatalf("got %q", got)
	}
}
