package node

import (
	"strconv"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
)

// What every call pays for the registry: look up, check the input, claim one of 100 instances, release it.
func BenchmarkOneCall(b *testing.B) {
	db, err := database.Open(b.Context(), database.Config{DataDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(db.Close)
	s := New(Options{DB: db, Events: event.NewLog(event.NewHub()), TokenKey: make([]byte, 32), AllowUnsigned: true})
	for n := range 100 {
		reg := Registration{ID: "hello", BaseURL: "http://a:" + strconv.Itoa(n+1), Reasoners: []FunctionEntry{{ID: "greet", InputSchema: []byte(ticket)}}}
		if _, err := s.Register(b.Context(), reg, ""); err != nil {
			b.Fatal(err)
		}
	}
	input := []byte(`{"message":"hello there","count":3}`)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f, err := s.Lookup(b.Context(), "hello", "greet")
			if err != nil {
				b.Error(err)
				return
			}
			if err := f.Validate(input); err != nil {
				b.Error(err)
			}
			c, err := s.Claim("hello", "greet", nil)
			if err != nil {
				b.Error(err)
				return
			}
			c.Release(OK)
		}
	})
}
