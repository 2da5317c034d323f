package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/agentfield/agentfield/sdk/go/agent"
)

type source struct {
	Title string `json:"title"`
	URL   string `json:"url"`
}

type section struct {
	Heading string `json:"heading"`
	Text    string `json:"text"`
}

type study struct {
	Topic    string    `json:"topic"`
	Analysis string    `json:"analysis"`
	Sections []section `json:"sections"`
	Sources  []source  `json:"sources"`
}

// chapters of a study: what the agent does for each of them, and the sentence it finds.
var chapters = []struct{ doing, heading, finding string }{
	{"Splitting the question", "Scope", "%s is best read as three questions: what is possible, what it costs, and who needs it."},
	{"Collecting sources", "State of the art", "The sources agree that %s has left the laboratory and not yet reached everyday use."},
	{"Reading", "Drivers", "Falling costs, better tools and a few early customers drive %s."},
	{"Comparing positions", "Obstacles", "Skills, reliability and unclear responsibility hold %s back more than technology does."},
	{"Checking contradictions", "Disagreements", "Where sources on %s disagree, they mostly measure different things."},
	{"Weighing the evidence", "Outlook", "Over five years, %s is likely to grow in niches first and to surprise at the edges."},
	{"Drafting", "Advice", "Whoever considers %s should start small, measure, and keep a way back."},
}

func (c company) research(a *agent.Agent) {
	type request struct {
		Topic string `json:"topic" description:"What is to be analysed"`
	}
	agent.Handle(a, "deep_analysis", func(ctx context.Context, in request) (study, error) {
		topic := strings.TrimSpace(in.Topic)
		if topic == "" {
			return study{}, agent.Errorf(422, "the topic is empty")
		}
		agent.Note(ctx, "Researching "+topic, "research")
		s := study{Topic: topic, Sections: []section{}}
		for i, chapter := range chapters {
			agent.Partial(ctx, float64(i)/float64(len(chapters)+1), chapter.doing, s.Sections)
			if err := c.sleep(ctx, time.Second); err != nil {
				return study{}, err
			}
			s.Sections = append(s.Sections, section{chapter.heading, sentence(fmt.Sprintf(chapter.finding, topic))})
		}
		agent.Partial(ctx, float64(len(chapters))/float64(len(chapters)+1), "Writing it up", s.Sections)
		if err := c.sleep(ctx, time.Second); err != nil {
			return study{}, err
		}
		s.Analysis, s.Sources = summarise(s.Sections), sourcesFor(topic)
		agent.Note(ctx, fmt.Sprintf("Done: %d sections from %d sources", len(s.Sections), len(s.Sources)), "research", "decision")
		return s, nil
	}, agent.Description("Analyses a topic in about eight seconds and shows how far it is."), agent.Tags("research", "slow"))
}

func sentence(text string) string {
	runes := []rune(text)
	runes[0] = unicode.ToUpper(runes[0])
	return string(runes)
}

func summarise(sections []section) string {
	texts := make([]string, len(sections))
	for i, s := range sections {
		texts[i] = s.Text
	}
	return strings.Join(texts, " ")
}

func sourcesFor(topic string) []source {
	slug := strings.Join(strings.FieldsFunc(strings.ToLower(topic), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), "-")
	list := make([]source, 0, 3)
	for _, kind := range []string{"survey", "field report", "market study"} {
		year := 2020 + number(6, topic, kind)
		list = append(list, source{
			Title: sentence(fmt.Sprintf("%s: a %s (%d)", topic, kind, year)),
			URL:   "https://example.com/library/" + url.PathEscape(slug) + "/" + strings.ReplaceAll(kind, " ", "-"),
		})
	}
	return list
}

type entity struct {
	Type string `json:"type" enum:"organization,person,place,date,amount"`
	Text string `json:"text"`
}

type digest struct {
	DocumentURL string   `json:"document_url"`
	Title       string   `json:"title"`
	Summary     string   `json:"summary"`
	Entities    []entity `json:"entities"`
	Pages       int      `json:"pages"`
}

func (c company) documents(a *agent.Agent) {
	type request struct {
		DocumentURL string `json:"document_url" description:"http or https address; it is not fetched"`
	}
	agent.Handle(a, "analyze", func(ctx context.Context, in request) (digest, error) {
		d, err := digestOf(in.DocumentURL)
		if err != nil {
			return digest{}, err
		}
		for i, doing := range []string{"Splitting into pages", "Reading", "Collecting names"} {
			agent.Progress(ctx, float64(i)/3, doing)
			if err := c.sleep(ctx, time.Second); err != nil {
				return digest{}, err
			}
		}
		return d, nil
	}, agent.Description("Summarises a document, judging by its address alone."), agent.Tags("documents"))
}

// digestOf makes up what a document with this address might hold.
func digestOf(address string) (digest, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return digest{}, agent.Errorf(422, "document_url %q is not an http or https address", address)
	}
	name := strings.TrimSuffix(path.Base(u.Path), path.Ext(u.Path))
	if name == "" || name == "/" || name == "." {
		name = u.Hostname()
	}
	title := sentence(strings.NewReplacer("-", " ", "_", " ").Replace(name))
	pages := 4 + int(number(40, address))
	year := 2015 + number(10, address, "year")
	place := pick(address, "place", "Lisbon", "Nairobi", "Osaka", "Toronto", "Tallinn")
	amount := fmt.Sprintf("%d.%d million EUR", 1+number(90, address, "amount"), number(10, address, "tenth"))
	return digest{
		DocumentURL: address, Title: title, Pages: pages,
		Summary: fmt.Sprintf("Document contains %d pages under the title %q: an overview of %d, figures from %s, and a budget of %s.", pages, title, year, place, amount),
		Entities: []entity{
			{"organization", u.Hostname()}, {"place", place}, {"date", fmt.Sprint(year)}, {"amount", amount},
		},
	}, nil
}

func pick(key, what string, words ...string) string {
	return words[number(uint32(len(words)), key, what)]
}

type statistics struct {
	DatasetID string  `json:"dataset_id"`
	Rows      int     `json:"rows"`
	Mean      float64 `json:"mean"`
	Median    float64 `json:"median"`
	P95       float64 `json:"p95"`
	Outliers  int     `json:"outliers"`
}

func (c company) analytics(a *agent.Agent) {
	type request struct {
		DatasetID string `json:"dataset_id" description:"Names the data; the same name always means the same data"`
	}
	agent.Handle(a, "process_dataset", func(ctx context.Context, in request) (statistics, error) {
		const parts, rowsPerPart = 5, 10_000
		generator := rand.New(rand.NewPCG(uint64(number(1<<31, in.DatasetID)), 1)) // data, not secrets
		values := make([]float64, 0, parts*rowsPerPart)
		for part := range parts {
			agent.Partial(ctx, float64(part)/parts, fmt.Sprintf("Part %d of %d", part+1, parts), map[string]int{"rows": len(values)})
			for range rowsPerPart {
				values = append(values, 100+15*generator.NormFloat64())
			}
			if err := c.sleep(ctx, 800*time.Millisecond); err != nil {
				return statistics{}, err
			}
		}
		return describe(in.DatasetID, values), nil
	}, agent.AsSkill(), agent.Description("Draws a data set from its name and computes its statistics."), agent.Tags("data"))
}

func describe(id string, values []float64) statistics {
	slices.Sort(values)
	sum, outliers := 0.0, 0
	for _, v := range values {
		sum += v
		if v < 55 || v > 145 { // three standard deviations
			outliers++
		}
	}
	n := len(values)
	return statistics{
		DatasetID: id, Rows: n, Mean: round(sum / float64(n)), Median: round(values[n/2]), P95: round(values[n*95/100]), Outliers: outliers,
	}
}

func round(v float64) float64 { return float64(int64(v*1000+0.5)) / 1000 }
