package components

import (
	"context"
	"strings"
	"time"
)

// Zone names that are no names of places.
const (
	LocalZone = "local" // that of the visitor's machine, which only a script knows; without one it is UTC
	UTCZone   = "utc"
)

type zoneKey struct{}

type zone struct {
	name string
	at   *time.Location
}

// WithZone chooses the zone in which a page writes its times: local, utc or a name such as Europe/Berlin. It reports false, and chooses
// nothing, for what is no zone.
func WithZone(ctx context.Context, name string) (context.Context, bool) {
	at := time.UTC
	switch lower := strings.ToLower(name); lower {
	case LocalZone, UTCZone:
		name = lower
	default:
		var err error
		if at, err = time.LoadLocation(name); err != nil || !strings.Contains(name, "/") {
			return ctx, false
		}
	}
	return context.WithValue(ctx, zoneKey{}, zone{name, at}), true
}

func zoneOf(ctx context.Context) zone {
	if z, ok := ctx.Value(zoneKey{}).(zone); ok {
		return z
	}
	return zone{LocalZone, time.UTC}
}

// ZoneName is the zone that was chosen.
func ZoneName(ctx context.Context) string { return zoneOf(ctx).name }

// ZoneLabel names the zone in which the server has written the times of the page.
func ZoneLabel(ctx context.Context) string {
	z := zoneOf(ctx)
	if z.at == time.UTC {
		return "UTC"
	}
	return z.name
}

// In writes an instant (ms) in the zone of the page.
func In(ctx context.Context, ms int64, layout string) string {
	return time.UnixMilli(ms).In(zoneOf(ctx).at).Format(layout)
}

// bothZones is an instant (ms) in full, in UTC and where the visitor wants it.
func bothZones(ctx context.Context, ms int64) string {
	const full = "2006-01-02 15:04:05"
	text := Instant(ms).Format(full) + " UTC"
	if z := zoneOf(ctx); z.at != time.UTC {
		text += " · " + In(ctx, ms, full) + " " + z.name
	}
	return text
}
