package workflow_test

import (
	"fmt"
	"testing"

	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

func TestNewsIsWhatHappenedSince(t *testing.T) {
	at := func(ms int64) *int64 { return &ms }
	g := workflow.Build([]models.Step{
		{ID: "a", Status: models.Succeeded, CreatedAt: 1, FinishedAt: at(90)},
		{ID: "b", Status: models.Failed, CreatedAt: 2, FinishedAt: at(140)},
		{ID: "c", Status: models.Timeout, CreatedAt: 3, FinishedAt: at(130)},
		{ID: "d", Status: models.Succeeded, CreatedAt: 110, FinishedAt: at(120)},
		{ID: "e", Status: models.Waiting, CreatedAt: 4, WaitingSince: at(50)},
		{ID: "f", Status: models.Waiting, CreatedAt: 5, WaitingSince: at(150)},
		{ID: "g", Status: models.Running, CreatedAt: 160},
	})
	n := workflow.News(g, 100)
	if got := fmt.Sprintf("%d %v %d %s %s %v", n.Called, n.Ended, n.Waiting, n.Failed.ID, n.Asks.ID, n.None()); got != "2 [{succeeded 1} {failed 1} {timeout 1}] 1 b f false" {
		t.Error(got)
	}
	if later := workflow.News(g, 200); !later.None() || later.Failed != nil {
		t.Errorf("%+v", later)
	}
}
