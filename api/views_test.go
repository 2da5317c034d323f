package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestAFilterIsKeptUnderANameAndShared(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		saved := d.form(caller{}, "/views", "list", "executions", "name", "Slow ones", "next", "status=failed&q=dur:>10s&cursor=x&limit=25")
		if saved.status != http.StatusSeeOther || !strings.HasPrefix(saved.location, "/executions?q=dur:%3E10s&status=failed&view=view_") {
			t.Fatalf("saved: %d to %s", saved.status, saved.location)
		}
		id := saved.location[strings.Index(saved.location, "view_"):]
		if alone := d.page("/executions?view=" + id); alone.status != http.StatusFound || alone.location != saved.location {
			t.Errorf("the address of the view alone: %d to %s", alone.status, alone.location)
		}
		page := d.page(saved.location)
		if !strings.Contains(page.body, "Slow ones") || strings.Contains(page.body, "modified") {
			t.Error("the view is not shown as it was kept")
		}
		if changed := d.page("/executions?status=timeout&view=" + id); !strings.Contains(changed.body, "modified") {
			t.Error("a changed view does not say so")
		}
		if gone := d.page("/executions?view=view_unknown"); gone.status != http.StatusOK {
			t.Errorf("a view that is gone: %d", gone.status)
		}
		if other := d.form(caller{}, "/views", "list", "secrets", "name", "x", "next", ""); other.status != http.StatusBadRequest {
			t.Errorf("a list without views: %d", other.status)
		}
		if nameless := d.form(caller{}, "/views", "list", "executions", "name", " ", "next", ""); nameless.status != http.StatusBadRequest {
			t.Errorf("a view without a name: %d", nameless.status)
		}
		deleted := d.form(caller{}, "/views/"+id+"/delete", "next", "/executions?"+url.QueryEscape("a"))
		if deleted.status != http.StatusSeeOther || deleted.location != "/executions?a" {
			t.Errorf("deleted: %d to %s", deleted.status, deleted.location)
		}
		if again := d.page("/executions"); strings.Contains(again.body, "Slow ones") {
			t.Error("the view is still there")
		}
	})
}
