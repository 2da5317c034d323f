package webhook

import (
	"context"
	"fmt"
	"strings"

	"github.com/agentfield/agentfield/models"
)

// HostStatus is how a host is doing.
type HostStatus struct {
	*models.WebhookHost
	Health   Health
	InFlight int
	Held     int // waits for it; CountLimit means that many or more
}

// hostsListed is how many hosts a list has, those in trouble first.
const hostsListed = 100

const (
	listHosts = hostColumns + ` WHERE $1 = '' OR host LIKE $2 ESCAPE '!' ORDER BY CASE state WHEN 'open' THEN 1 ELSE 0 END, failures DESC, host LIMIT $3`
	// Counted apart, so that they are found by their owners: the index of hosts would be read whole.
	inFlight = `WITH busy(host) AS MATERIALIZED (SELECT %s FROM webhook_deliveries WHERE lease_owner IS NOT NULL AND status = 'running')
		SELECT host, count(*) FROM busy GROUP BY host`
)

// Hosts lists those whose name has a text in it, those in trouble first, and tells whether there are more.
func (s *Service) Hosts(ctx context.Context, text string) (list []HostStatus, more bool, err error) {
	text = strings.ToLower(text)
	rows, err := s.DB.Query(ctx, listHosts, text, "%"+strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(text)+"%", hostsListed+1)
	if err != nil {
		return nil, false, fmt.Errorf("list webhook hosts: %w", err)
	}
	found, err := scanHosts(rows)
	if err != nil {
		return nil, false, err
	}
	busy, err := s.inFlight(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, h := range found[:min(len(found), hostsListed)] {
		status := HostStatus{WebhookHost: h, InFlight: busy[h.Host]}
		if status.Health, err = s.HealthOf(ctx, Filter{Host: h.Host}); err != nil {
			return nil, false, err
		}
		if status.Held, err = s.heldFor(ctx, h.Host, CountLimit); err != nil {
			return nil, false, err
		}
		list = append(list, status)
	}
	return list, len(found) > hostsListed, nil
}

// HostOf is how the host of a delivery stands; nil when nothing is known about it.
func (s *Service) HostOf(ctx context.Context, d *models.WebhookDelivery) (*models.WebhookHost, error) {
	rows, err := s.DB.Query(ctx, hostColumns+" WHERE host = (SELECT "+s.hostIs()+" FROM webhook_deliveries WHERE id = $1)", d.ID)
	if err != nil {
		return nil, fmt.Errorf("read a webhook host: %w", err)
	}
	found, err := scanHosts(rows)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// inFlight counts what is on its way, by host.
func (s *Service) inFlight(ctx context.Context) (map[string]int, error) {
	rows, err := s.DB.Query(ctx, fmt.Sprintf(inFlight, s.hostIs()))
	if err != nil {
		return nil, fmt.Errorf("count webhooks on their way: %w", err)
	}
	defer rows.Close()
	busy := map[string]int{}
	for rows.Next() {
		var host string
		var n int
		if err := rows.Scan(&host, &n); err != nil {
			return nil, fmt.Errorf("count webhooks on their way: %w", err)
		}
		busy[host] = n
	}
	return busy, rows.Err()
}

// Rate is how many deliveries a host that recovers gets in a second.
func (s *Service) Rate() int { return s.rate }
