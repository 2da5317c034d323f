package webhook

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestUnknownReceiverGetsAQuarter(t *testing.T) {
	h := newHosts(8)
	h.patience = time.Millisecond
	for range 2 {
		if ok, _ := h.enter(t.Context(), "a"); !ok {
			t.Fatal("no place although a quarter is free")
		}
	}
	ok, later := h.enter(t.Context(), "a")
	if ok || later < minPutBack {
		t.Errorf("a third place: %v, %v", ok, later)
	}
	if ok, _ := h.enter(t.Context(), "b"); !ok {
		t.Error("another receiver got no place")
	}
}

func TestQuickReceiverGetsThreeQuarters(t *testing.T) {
	h := newHosts(8)
	h.patience = time.Hour // who waits is let in by leave, not by the clock
	for range 2 {
		h.enter(t.Context(), "a")
	}
	var entered atomic.Int64
	done := make(chan struct{})
	for range 4 {
		go func() {
			if ok, _ := h.enter(t.Context(), "a"); ok && entered.Add(1) == 4 {
				close(done)
			}
		}()
	}
	h.leave("a", time.Millisecond, true)
	h.enter(t.Context(), "a") // takes the place again, if the four were not there yet
	<-done
	if h.byName["a"].inFlight != 6 {
		t.Errorf("%d in flight", h.byName["a"].inFlight)
	}
}

func TestSlowReceiverIsPaced(t *testing.T) {
	h := newHosts(16)
	h.patience = time.Millisecond
	for range 5 {
		h.enter(t.Context(), "a")
	}
	h.leave("a", 8*time.Second, false)
	h.enter(t.Context(), "a")
	var last time.Duration
	for i := range 2000 {
		ok, later := h.enter(t.Context(), "a")
		if ok || later < minPutBack || later > maxPutBack {
			t.Fatalf("%d: %v, %v", i, ok, later)
		}
		if i > 0 && i < 20 && later < last+1900*time.Millisecond {
			t.Errorf("%d comes again after %v, the one before after %v: four places of 8 s take one every 2 s", i, later, last)
		}
		last = later
	}
}

func TestReceiversAreForgotten(t *testing.T) {
	h := newHosts(8)
	h.enter(t.Context(), "a")
	h.leave("a", time.Millisecond, true)
	if len(h.byName) != 0 {
		t.Error("a receiver at rest is kept")
	}
}
