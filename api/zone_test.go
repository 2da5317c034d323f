package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestPagesAreWrittenInTheZoneOfTheVisitor(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		if plain := d.page("/"); strings.Contains(plain.body, "data-tz=") {
			t.Error("a zone nobody chose")
		}
		if shared := d.page("/executions?tz=Asia/Tokyo"); !strings.Contains(shared.body, `data-tz="Asia/Tokyo"`) || !strings.Contains(shared.body, ">Asia/Tokyo<") {
			t.Error("the zone of the address is not used")
		}
		chosen := string(r.Do(t, http.MethodGet, "/", nil, "Cookie", "tz=Europe/Berlin").Body)
		if !strings.Contains(chosen, `data-tz="Europe/Berlin"`) {
			t.Error("the zone of the cookie is not used")
		}
		if both := string(r.Do(t, http.MethodGet, "/?tz=utc", nil, "Cookie", "tz=Europe/Berlin").Body); !strings.Contains(both, `data-tz="utc"`) {
			t.Error("a shared address does not win over the cookie")
		}
		if bad := d.page("/?tz=Mars/Base"); bad.status != http.StatusOK || strings.Contains(bad.body, "Mars") && strings.Contains(bad.body, `data-tz="Mars`) {
			t.Errorf("an unknown zone: %d", bad.status)
		}
		if set := d.form(caller{}, "/zone", "place", " America/Lima ", "next", "/executions"); set.status != http.StatusSeeOther || set.location != "/executions" {
			t.Errorf("choosing: %d to %s", set.status, set.location)
		}
		if wrong := d.form(caller{}, "/zone", "place", "../../etc/passwd"); wrong.status != http.StatusBadRequest {
			t.Errorf("no zone: %d", wrong.status)
		}
	})
}
