package api

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
)

func TestARouteWithoutAScopeDoesNotStart(t *testing.T) {
	s := New(Options{Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), BodyLimit: 1 << 20})
	defer func() {
		if p, _ := recover().(string); !strings.Contains(p, "GET /forgotten has no scope") {
			t.Errorf("it started, or panicked with %q", p)
		}
	}()
	s.add(s.app, []Route{{Method: "GET", Path: "/forgotten", handler: func(*fiber.Ctx) error { return nil }}})
}
