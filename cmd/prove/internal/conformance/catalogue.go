package conformance

// Catalogue is the table of all rows in the order of the requirements.
func Catalogue() []Section {
	return []Section{
		{"Make an agent asynchronous", asynchronous()},
		{"Agent execution and human approval", execution()},
		{"Core architecture", architecture()},
		{"Forum thread on asynchronous tool calls", forum()},
		{"Concepts of asynchronous execution", concepts()},
		{"Design card", design()},
		{"Bad input", badInput()},
		{"Bad agents", badAgents()},
	}
}

func row(id, title string, where place, check func(*Trial)) Row {
	return Row{ID: id, Title: title, Check: check, Place: where}
}

// open is a row that nothing shows yet.
func open(id, title string) Row { return Row{ID: id, Title: title, Why: notBuilt} }

// shownBy is a row whose acceptance check is that of other rows.
func shownBy(id, title string, others ...string) Row { return Row{ID: id, Title: title, By: others} }

func asynchronous() []Row {
	return []Row{
		row("S1", "Both modes give the same result", shared, bothModesAgree),
		row("S2", "Asynchronous work has no limit (4 s held, 4 s reported)", shared, workHasNoLimit),
		row("S3", "The given curl greets Alice", shared, givenGreeting),
		row("S4", "The synchronous body has the documented fields", shared, syncBody),
		row("S5", "The synchronous limit ends in 504; a late result is kept (timeout_seconds 1)", shared, syncLimit),
		row("S6", "202 in under 50 ms, queued", quiet, acceptedAtOnce),
		row("S7", "Custom webhook headers arrive", shared, customHeaders),
		row("S8", "202 tells whether the webhook is registered; a bad one is refused", shared, webhookIsToldAtSubmit),
		row("S9", "Webhook body on success", shared, successIsAnnounced),
		row("S10", "The signature verifies and notices a changed byte", shared, signatureFits),
		row("S11", "One delivery, at most 250 ms after the end (1.5 s run)", quiet, toldAtOnceAndOnce),
		row("S12", "5,000 executions in flight, each ends once", solitary, thousandsInFlight),
		row("S13", "A delivery survives kill -9; a redelivery sends", private, deliverySurvivesAKill),
		row("S14", "A page on webhook security", shared, guideToWebhooks),
		row("S15", "Asynchronous call without a webhook", shared, asyncWithoutWebhook),
		row("S16", "GET while running", shared, readWhileRunning),
		row("S17", "GET when done", shared, readWhenDone),
		row("S18", "The given JavaScript polling function works", shared, givenPollingWorks),
		row("S19", "Batch status of 1,000 in under 50 ms, 1,001 refused", quiet, batchOfThousand),
		row("S20", "Batch status is a map by id", shared, batchIsAMap),
		row("S21", "The same status words in GET, batch, list and page", shared, sameWordEverywhere),
		row("S22", "Cancel queued, running and waiting work", private, cancelWhereverItIs),
		row("S23", "The limit of a request ends in timeout", shared, limitOfOneSecond),
		row("S24", "Synchronous error body", shared, syncTimeoutBody),
		row("S25", "Webhook body on failure and timeout", shared, failureIsAnnounced),
		row("S26", "GET shows the webhook attempts", shared, attemptsAreShown),
		row("S27", "Five webhook attempts with growing gaps (from 250 ms)", private, fiveAttemptsThenFailed),
		row("S28", "Advice: sync, webhook or polling", shared, adviceOnModes),
		row("S29", "Advice on webhooks (refused targets: I11)", shared, adviceOnWebhooks),
		row("S30", "Retry-After and long poll", shared, pollersAreHelped),
		row("S31", "Error bodies name the execution", shared, errorsNameTheExecution),
	}
}

func execution() []Row {
	return []Row{
		row("S32", "Reasoners and skills are both callable", shared, bothKindsWork),
		row("S33", "Metadata is tracked without instrumentation (row and history)", shared, rowIsComplete),
		row("S34", "One endpoint; unknown targets are 404", shared, unknownTargets),
		row("S35", "The given router answers under its prefix", shared, givenRouter),
		shownBy("S36", "Router decorators of the Python SDK", "S35"),
		row("S37", "Session and actor are stored, passed on and filters", shared, sessionAndActor),
		row("S38", "A pausing agent answers a synchronous caller", shared, pauseAnswersSync),
		row("S39", "An execution that failed is 200 with error_message", shared, failureIsAnAnswer),
		row("S40", "Timestamps are RFC 3339 UTC", shared, timestampsAreUTC),
		row("S41", "Input is checked against the schema before dispatch", shared, schemaGuards),
		row("S42", "The row exists while the agent runs", shared, persistedWhileRunning),
		row("S43", "Requests reach /reasoners/{function}", shared, routedToThePath),
		row("S44", "duration_ms within 5 ms of the agent's own", quiet, durationIsTrue),
		shownBy("S45", "The result comes with complete metadata", "S4"),
		row("S46", "Agents are orchestrated by the control plane and make one DAG", shared, agentsMakeOneDAG),
		row("S47", "The given JavaScript chains two agents into one run, in JSON and on its page", private, givenChainMakesARun),
		row("S48", "The DAG is built from that header alone", shared, headerMakesTheDAG),
		row("S49", "A value of one session is invisible in another", shared, sessionsAreApart),
		row("S50", "Attribution by actor (list filter)", shared, attributedToActor),
		row("S51", "The caller may leave; the execution goes on", shared, callerMayLeave),
		row("S52", "The given error handling: success, failure, time-out, refused", shared, givenErrorHandling),
		row("S53", "A webhook without headers", shared, webhookWithoutHeaders),
		row("S54", "A request for approval leads to waiting within 1 s", quiet, pauseLeadsToWaiting),
		row("S55", "The full approval flow, the server killed before and after the decision", private, approvalOutlivesKills),
		row("S56", "waiting_for in GET, field by field", shared, waitingForIsAsGiven),
		row("S57", "The review page; looking decides nothing", shared, reviewPageWorks),
		row("S58", "Reviewers are notified", private, reviewersAreNotified),
		row("S59", "No waiting_for in pending, queued, running or ended", shared, waitingForThereAndNowhereElse),
		row("S60", "pending until an instance appears", shared, pendingUntilSomebodyComes),
		row("S61", "request-approval: the given curl; a second one is 409", shared, givenRequest),
		row("S62", "Approval by custom runtimes, with the token of the execution", shared, runtimesNeedTheToken),
		row("S63", "approval-status of two rounds by their ids", shared, roundsAreReadById),
		row("S64", "Values of approval-status, readable afterwards", shared, everyStatusIsReadable),
		row("S65", "The decision endpoint: the given curl, its alias, every form", shared, givenDecision),
		row("S66", "Each decision resumes the agent; on_reject cancels", shared, everyDecisionResumes),
		row("S67", "The agent gets decision and feedback when it is back, by callback and by poll", shared, agentIsToldLater),
		row("S68", "Approve, reject, request changes by the forms of the page", shared, formsDecide),
		row("S69", "Approvals expire and the agent is told", shared, approvalsExpire),
	}
}

func architecture() []Row {
	return []Row{
		row("S70", "Agents in plain shell and plain Node, without an SDK", shared, otherLanguages),
		row("S71", "Registration and discovery", shared, registerAndDiscover),
		row("S72", "Execution context: X-Run-ID decides the run", shared, runIDWins),
		open("S73", "Memory and its change events"),
		open("S74", "DIDs and credentials"),
		row("S75", "A small kill loop (the whole one: prove crash)", private, killLoop),
		shownBy("S76", "Webhooks are the control plane's job", "S11", "S13"),
		row("S77", "At most 40 MB idle; replicas take over from each other", solitary, smallWhenIdle),
		row("S78", "An agent restarts beside others, which do not notice", shared, agentsRestartAlone),
		row("S79", "The given triage agent: memory, call, model, note, typed result", private, givenTriage),
		shownBy("S80", "app.ai returns the typed object", "S79"),
		shownBy("S81", "A call of an SDK links child and parent", "S94", "S79"),
		row("S82", "The given support agent writes into the memory of its workflow", private, givenSupport),
		row("S83", "A note is shown with its execution, in every form SDKs send", shared, notesAreShown),
		row("S84", "All JSON values make the round trip, directly and by callback", shared, allJSONTypesTravel),
		row("S85", "An agent outlives a restart, and registers again where it was forgotten (Go SDK)", private, agentComesBack),
		shownBy("S86", "An SDK passes the context on", "S94", "S46"),
		shownBy("S87", "The SDK handles memory", "S82"),
		open("S88", "The SDK handles identity"),
		row("S89", "An agent answers /health and /metrics (Go SDK)", shared, agentsTellHowTheyAre),
		row("S90", "Agent-to-agent calls have rows; callers that are agents get the agent's status", shared, childrenAndTheirFailures),
		row("S91", "300 calls over 3 instances; one killed, 0 failures once it is out", private, spreadOverInstances),
		shownBy("S92", "The DAG is observable", "S116"),
		open("S93", "Circuit breaking"),
		row("S94", "Context without ids by hand (Go SDK)", shared, contextWithoutIDs),
		row("S95", "Persisted before execution: SIGKILL after the 202", private, acceptedSurvivesAKill),
		row("S96", "Context headers reach the agent", shared, contextHeaders),
		shownBy("S97", "Agent code has the context", "S94", "S79"),
		row("S98", "The result is stored before it is returned: SIGKILL after the 200", private, answeredSurvivesAKill),
		row("S99", "Inbound aliases are normalised", shared, aliasesAreNormalised),
		row("S100", "p99 under 50 ms at 500 submits/s", quiet, steadyRate),
		row("S101", "Persisted as queued before the 202", private, neverRunningWhileQueued),
		row("S102", "The size of the worker pool is set and visible", private, poolSizeIsVisible),
		shownBy("S103", "Work may take long", "S2"),
		shownBy("S104", "A signed webhook at completion", "S10", "S11"),
		shownBy("S105", "The same agent serves both modes", "S1"),
		row("S106", "Crash or restart leaves a complete record: SIGKILL in a bulk job (calls: S75, S159)", private, bulkOutlivesAKill),
		row("S107", "traceparent in: passed on to agents, and spans arrive at an OTLP stub", private, spansArrive),
		row("S108", "Two replicas: callbacks, polls and cancels cross over", private, replicasAreOne),
		row("S109", "100 instances registered and used", private, hundredInstances),
		row("S110", "Scopes of memory, from the narrowest on; keys that look alike stay apart", shared, memoryHasScopes),
		shownBy("S111", "When to use which mode", "S28"),
		row("S112", "Retry policy: fails twice, then succeeds", shared, retriesByPolicy),
		open("S113", "Schedules"),
		shownBy("S114", "Tracked: start, end, duration", "S44"),
		row("S115", "Tracked: agent, function, session, actor (filters and paging)", shared, filtersAndPages),
		row("S116", "Tracked: lineage, as JSON, Mermaid, SVG, text and page", shared, lineageIsShown),
		open("S117", "Retention"),
		row("S118", "Tracked: errors and transitions in order", shared, historyInOrder),
		row("S119", "Tracked: webhook attempts (redirects not followed, context echoed)", shared, trackedDeliveries),
		shownBy("S120", "Single binary; dev and run start agents", "S79", "S122"),
		row("S121", "dev needs agentfield.yaml and main.py", shared, whatDevNeeds),
		row("S122", "A changed main.py is served within 2 s", quiet, changesAreServedSoon),
		open("S123", "Docker Compose"),
		row("S124", "The given configuration takes the server of the environment", shared, givenConfiguration),
		row("S125", "Ten agents in the forms of three SDKs, found and called", shared, tenAgents),
		open("S126", "Kubernetes manifests"),
		open("S127", "Container image"),
		row("S128", "With PostgreSQL nothing is written to disk", private, nothingOnDisk),
		shownBy("S129", "AGENTFIELD_SERVER is all that an agent needs", "S124"),
		row("S130", "init, dev and the printed command, timed", quiet, firstMinutes),
		open("S131", "Shared memory without configuration"),
		row("S132", "A noisy agent does not delay a quiet one (1,500 queued)", solitary, quietAgentIsServed),
		row("S133", "Health checks and metrics (traces: S107)", shared, standardOperations),
		open("S134", "Audit trail verifies offline"),
		open("S135", "Provenance"),
		open("S136", "Five-minute quick start"),
		row("S137", "The same answers on both databases", private, sameOnBothDatabases),
	}
}

func forum() []Row {
	return []Row{
		row("S138", "Progress survives leaving the page", shared, progressIsThereOnReturn),
		open("S139", "One executions table"),
		row("S140", "Partial output is there while it runs", shared, resultSoFar),
		open("S141", "Notifier rules"),
		shownBy("S142", "The start returns a run id at once", "S6"),
		row("S143", "The page updates within 2 s by SSE, and by polling without it (in a browser: views/e2e)", shared, pageRefreshes),
		row("S144", "Three page states", shared, threePageStates),
		row("S145", "Idempotency-Key replays the same execution", shared, sameKeySameExecution),
		row("S146", "Logs and notes while it runs, calls inside agents in the run", shared, saidWhileItRuns),
		open("S147", "Agents as tools"),
		row("S148", "10 MB pass, 100 MB are refused, memory is bounded", solitary, largeValues),
	}
}

func concepts() []Row {
	return []Row{
		shownBy("S149", "Many tasks at once", "S12"),
		row("S150", "Results in the order they arrive", shared, fastOneIsToldFirst),
		row("S151", "Waiting without blocking; a cancel wakes the caller", shared, cancelWakesSync),
		row("S152", "One failure of ten stays alone", shared, failureStaysAlone),
		shownBy("S153", "Scale by instances, queues and limits", "S91", "S132"),
		row("S154", "1,000 races of approve, reject and cancel", quiet, raceOfDecisions),
		row("S155", "Overload: refusals are told, memory bounded, accepted work ends", solitary, overload),
		row("S156", "A full share is 429, a full queue 503, both without a row", private, fullQueues),
		row("S157", "One id finds history, attempts and webhook tries", shared, oneIDFindsAll),
		row("S158", "Executions with a concurrency key run one after the other, in the order they came", shared, keyKeepsOrder),
		row("S159", "No silent failure: every id accepted above is there", last, nothingIsLost),
		open("S160", "Inbound hooks and CloudEvents"),
		row("S161", "If-Match on memory: of 100 increments none is lost", shared, writersDoNotOverwrite),
	}
}

func design() []Row {
	return []Row{
		open("D1", "Fiber, templ and htmx; complete without scripts"),
		open("D2", "Execution list"),
		open("D3", "Workflow DAG page"),
		open("D4", "Approval queue"),
		open("D5", "Operators redeliver webhooks"),
		open("D6", "Every page has a JSON twin"),
		open("D7", "Top level of the tree"),
		open("D8", "One end-to-end test for each kind of user"),
	}
}

func badInput() []Row {
	return []Row{
		row("I1", "Malformed JSON", shared, malformedJSON),
		row("I2", "Wrong types; null input and other media types are fine", shared, wrongTypes),
		row("I3", "Unknown and malformed targets", shared, badTargets),
		shownBy("I4", "Input that does not fit the schema", "S41"),
		row("I5", "Body over the limit", private, ownBodyLimit),
		row("I6", "Deep nesting", shared, deepNesting),
		row("I7", "NUL and broken UTF-8", shared, nulAndBrokenText),
		row("I8", "Over-long ids", shared, overLongIDs),
		row("I9", "Unknown filters and foreign cursors", shared, badFilters),
		row("I10", "Bad batches", shared, badBatches),
		row("I11", "Unusable webhooks", shared, badWebhooksAreRefused),
		row("I12", "Bad registrations", shared, badRegistrations),
		row("I13", "Bad, late and contradicting reports", shared, badReports),
		row("I14", "Cancel of what is unknown or over", shared, badCancels),
		row("I15", "Unknown routes and executions; keys in the URL", shared, unknownRoutes),
		row("I16", "Requests from foreign pages", shared, foreignOriginIsRefused),
		row("I17", "Node reads, heartbeats and goodbyes", shared, nodeLifecycle),
	}
}

func badAgents() []Row {
	return []Row{
		row("B1", "An agent that hangs", shared, agentHangs),
		row("B2", "An agent that drips", shared, agentDrips),
		row("B3", "Agents that send 100 MB", solitary, agentFloods),
		row("B4", "An agent that sends broken JSON, or words", shared, agentSendsNonsense),
		row("B5", "An agent that redirects", shared, agentRedirects),
		row("B6", "An agent that closes the connection", shared, agentSlams),
		row("B7", "An agent that is gone", shared, agentIsGone),
		row("B8", "An agent with endless error texts", shared, agentErrorTextIsShort),
		row("B9", "Every HTTP error of an agent is a failed execution", shared, agentHTTPErrors),
		row("B10", "A silent agent stays usable", shared, silentAgentStaysUsable),
	}
}

func filtersAndPages(t *Trial) {
	filtersFind(t)
	listPagesByCursor(t)
}

func trackedDeliveries(t *Trial) {
	redirectsAreNotFollowed(t)
	contextIsEchoed(t)
}

func fullQueues(t *Trial) {
	nodeShareIsBounded(t)
	serverQueueIsBounded(t)
}

func ownBodyLimit(t *Trial) {
	t.Own()
	bodyOverTheLimit(t)
}
