package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
)

// restAfterStart gives back what only starting needed: free memory of the heap, and the pages of the program itself that migrations and
// set-up have run through, about half of what the process held. Pages that are needed again come back from the file without a loss.
// It changes nothing but the size of the process, so what goes wrong with it is not worth a word.
func restAfterStart() {
	debug.FreeOSMemory()
	program, err := os.Executable()
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for _, m := range cleanMappings(bufio.NewScanner(f), program) {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED)
	}
}

// mapping is a stretch of addresses.
type mapping struct{ from, to uintptr }

// cleanMappings are the read-only parts of a file in memory in which nothing was ever written, not even by whoever loaded it: only
// those are the same when they are read from the file again.
func cleanMappings(lines *bufio.Scanner, file string) []mapping {
	var all []mapping
	var m mapping
	for lines.Scan() {
		line := lines.Text()
		fields := strings.Fields(line)
		if len(fields) >= 5 && !strings.HasSuffix(fields[0], ":") { // the first line of a mapping
			m = mapping{}
			if strings.HasSuffix(line, " "+file) && (fields[1] == "r-xp" || fields[1] == "r--p") {
				if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.from, &m.to); err != nil {
					m = mapping{}
				}
			}
		}
		if len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0" && m.from < m.to {
			all = append(all, m)
		}
	}
	return all
}
