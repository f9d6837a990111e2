//! Which series each figure of a status becomes.

/// The form of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number that goes up and down.
    Gauge,
    /// A number that only grows while the node runs.
    Counter,
    /// How often something took how long. Its figure is several: `.le_` with each limit, `.count` and `.sum`.
    Histogram,
}

/// The unit of a figure. A series has the base unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// As it is.
    Whole,
    /// Microseconds.
    Microseconds,
    /// Milliseconds; less than zero when nobody knows. The series has seconds.
    Milliseconds,
}

/// The label that tells the figures of one series apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// There is only one figure.
    None,
    /// The name and the value.
    Fixed(&'static str, &'static str),
    /// The name. Its value is what `*` stands for.
    Part(&'static str),
}

/// A name of a figure, or several names with a `*` for what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figure {
    pub(super) pattern: &'static str,
    pub(super) label: Label,
}

/// One series, of all nodes that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// Its whole name, with the unit and `_total` last.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    /// One sentence.
    pub(super) help: &'static str,
    pub(super) figures: &'static [Figure],
}

impl Figure {
    /// What `*` stands for in this name: an empty text when the pattern has none; `None` when the name is another.
    pub(super) fn part<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.pattern.split_once('*') {
            None => (self.pattern == name).then_some(""),
            Some((front, back)) => {
                let part = name.strip_prefix(front)?.strip_suffix(back)?;
                (!part.is_empty()).then_some(part)
            }
        }
    }
}

const fn one(pattern: &'static str) -> Figure {
    Figure { pattern, label: Label::None }
}

const fn of(pattern: &'static str, label: &'static str) -> Figure {
    Figure { pattern, label: Label::Part(label) }
}

const fn when(pattern: &'static str, label: &'static str, value: &'static str) -> Figure {
    Figure { pattern, label: Label::Fixed(label, value) }
}

const fn gauge(name: &'static str, help: &'static str, figures: &'static [Figure]) -> Family {
    Family { name, kind: Kind::Gauge, unit: Unit::Whole, help, figures }
}

const fn counter(name: &'static str, help: &'static str, figures: &'static [Figure]) -> Family {
    Family { name, kind: Kind::Counter, unit: Unit::Whole, help, figures }
}

const fn seconds(name: &'static str, help: &'static str, figures: &'static [Figure]) -> Family {
    Family { name, kind: Kind::Gauge, unit: Unit::Milliseconds, help, figures }
}

const fn histogram(name: &'static str, help: &'static str, figures: &'static [Figure]) -> Family {
    Family { name, kind: Kind::Histogram, unit: Unit::Microseconds, help, figures }
}

/// The exchange that has no name in core's figures.
const ONLY: &str = "external";

/// Figures of a status that become no series, and why.
pub(super) const LEFT_OUT: &[(&str, &str)] =
    &[("exchange.*.number", "the number that stands for a name is no quantity")];

/// All series that come from figures. Those of a node's reachability and of its breakers are in `text.rs`.
pub(super) const FAMILIES: &[Family] = &[
    // Every node.
    gauge("pregao_connections", "Connections that stand.", &[one("connections")]),
    counter(
        "pregao_connections_refused_total",
        "Connections that were refused with an error.",
        &[one("refused")],
    ),
    gauge(
        "pregao_insecure",
        "1 when other machines reach the node, which asks nobody who they are.",
        &[one("insecure")],
    ),
    counter(
        "pregao_local_faults_total",
        "How often something of this machine ran out: descriptors, ports, memory.",
        &[one("local_faults")],
    ),
    counter(
        "pregao_sent_bytes_total",
        "Bytes sent on connections; of a broker with several reactors by the first and by the others.",
        &[when("sent_bytes", "reactor", "first"), when("further_sent_bytes", "reactor", "further")],
    ),
    histogram(
        "pregao_turn_seconds",
        "Length of the node's turns, from the end of the wait for events to the next wait; of the first reactor.",
        &[one("turn_us")],
    ),
    gauge("pregao_epoch", "The epoch of the sequence, as this node knows it.", &[one("epoch")]),
    gauge(
        "pregao_next_seq",
        "The next number of the sequence that this node gives or wants.",
        &[one("next_seq")],
    ),
    gauge(
        "pregao_durable_seq",
        "The number in the sequence up to which the node's log is on the disk.",
        &[one("durable_seq")],
    ),
    gauge(
        "pregao_log_first_seq",
        "The oldest number of the sequence that the node's log still has.",
        &[one("first_seq"), one("journal_first_seq")],
    ),
    gauge(
        "pregao_log_bytes",
        "Bytes of the files of the node's log.",
        &[one("log_bytes"), one("journal_bytes")],
    ),
    gauge("pregao_instruments", "Instruments that the node knows.", &[one("instruments")]),
    gauge(
        "pregao_held_back",
        "1 while the node takes nothing in because its log cannot store it.",
        &[one("held_back")],
    ),
    gauge(
        "pregao_clock_refused",
        "1 while the wall clock is not believed because it does not fit the log.",
        &[one("clock_refused")],
    ),
    gauge(
        "pregao_log_front_missing",
        "1 when the front of the shard's history is missing.",
        &[one("front_missing")],
    ),
    gauge("pregao_log_holes", "Places in the sequence that the node never got.", &[one("holes")]),
    histogram(
        "pregao_log_sync_seconds",
        "Time that the disk took to make records of the log durable, until the node's turn learned of it.",
        &[one("log_sync_us")],
    ),
    histogram(
        "pregao_log_commit_seconds",
        "Time from the commit of the first record that a sync covers to the end of that sync.",
        &[one("log_commit_us")],
    ),
    seconds(
        "pregao_behind_seconds",
        "How far the node is behind core. Absent until it has caught up once.",
        &[one("behind_ms")],
    ),
    gauge("pregao_publisher_up", "1 while core publishes to this replica.", &[one("publisher_up")]),
    counter(
        "pregao_frames_received_total",
        "Data frames received from core or the broker.",
        &[one("frames")],
    ),
    counter(
        "pregao_frames_duplicate_total",
        "Data frames that the node had already.",
        &[one("duplicates")],
    ),
    // The exchange.
    gauge("pregao_exchange_consumers", "Sessions that receive the feed.", &[one("consumers")]),
    gauge(
        "pregao_exchange_released_seq",
        "The newest number of the feed that the exchange has released.",
        &[one("feed.released_seq")],
    ),
    gauge(
        "pregao_exchange_tape_frames",
        "Frames of the tapes that are played, all together.",
        &[one("feed.total_frames")],
    ),
    counter(
        "pregao_exchange_sessions_total",
        "Sessions that were asked for, by what was done with them.",
        &[
            when("sessions.served", "decision", "served"),
            when("sessions.refused", "decision", "refused"),
            when("sessions.stalled", "decision", "stalled"),
        ],
    ),
    counter(
        "pregao_exchange_requests_total",
        "Requests of consumers, by what was done with them.",
        &[
            when("requests.served", "decision", "served"),
            when("requests.refused", "decision", "refused"),
            when("requests.stalled", "decision", "stalled"),
        ],
    ),
    counter(
        "pregao_exchange_frames_total",
        "Frames of the feed to consumers, by what became of them.",
        &[
            when("frames.sent", "fate", "sent"),
            when("frames.lost", "fate", "lost"),
            when("frames.cut", "fate", "cut"),
            when("frames.garbage", "fate", "garbage"),
            when("frames.lapped", "fate", "lapped"),
        ],
    ),
    // An exchange that programs write lines to.
    counter("pregao_lines_read_total", "Lines of text that were read.", &[one("lines")]),
    counter(
        "pregao_lines_connections_total",
        "Connections that wrote lines.",
        &[one("lines.connections")],
    ),
    counter(
        "pregao_lines_faulty_total",
        "Lines that became no event or not the whole one, by what was wrong.",
        &[
            when("lines.wrong", "fault", "wrong"),
            when("lines.skipped", "fault", "skipped"),
            when("lines.torn", "fault", "torn"),
            when("lines.rounded", "fault", "rounded"),
        ],
    ),
    counter("pregao_lines_events_total", "Events that lines became.", &[one("events")]),
    gauge(
        "pregao_lines_events_kept",
        "Events that are kept until core has them on its disk.",
        &[one("events.kept")],
    ),
    counter(
        "pregao_lines_events_durable_total",
        "Events that core has on its disk.",
        &[one("events.durable")],
    ),
    // Core.
    seconds(
        "pregao_exchange_silent_seconds",
        "Time since core heard anything of the exchange.",
        &[when("exchange.silent_ms", "exchange", ONLY), of("exchange.*.silent_ms", "exchange")],
    ),
    seconds(
        "pregao_exchange_last_event_seconds",
        "Time since the last event of the exchange. Absent until there is one.",
        &[
            when("exchange.last_event_ms", "exchange", ONLY),
            of("exchange.*.last_event_ms", "exchange"),
        ],
    ),
    seconds(
        "pregao_exchange_usual_pause_seconds",
        "The usual time between two events of the exchange.",
        &[when("exchange.usual_ms", "exchange", ONLY), of("exchange.*.usual_ms", "exchange")],
    ),
    counter(
        "pregao_exchange_sessions_begun_total",
        "Sessions of core with the exchange.",
        &[when("exchange.sessions", "exchange", ONLY), of("exchange.*.sessions", "exchange")],
    ),
    counter(
        "pregao_exchange_resumes_total",
        "How often core asked the exchange for lost frames.",
        &[when("exchange.resumes", "exchange", ONLY), of("exchange.*.resumes", "exchange")],
    ),
    counter(
        "pregao_exchange_duplicates_total",
        "Frames of the exchange that core had already.",
        &[when("exchange.duplicates", "exchange", ONLY), of("exchange.*.duplicates", "exchange")],
    ),
    gauge(
        "pregao_exchange_seq",
        "The newest number of the exchange's feed that core has.",
        &[when("upstream_seq", "exchange", ONLY), of("exchange.*.upstream_seq", "exchange")],
    ),
    gauge(
        "pregao_silent_instruments",
        "Instruments that have said nothing for much longer than is usual for them.",
        &[one("silent_instruments")],
    ),
    counter(
        "pregao_local_frames_dropped_total",
        "Frames of core itself, as about breakers, that found no place in the sequence.",
        &[one("local_frames_dropped")],
    ),
    counter(
        "pregao_breaker_reports_dropped_total",
        "Reports of other nodes about their breakers that core dropped.",
        &[one("breaker_reports_dropped")],
    ),
    gauge("pregao_replays", "Replays of the journal that are under way.", &[one("replays")]),
    gauge(
        "pregao_replays_waiting",
        "Replays of the journal that wait for their turn.",
        &[one("replays_waiting")],
    ),
    gauge(
        "pregao_follower_accepted_seq",
        "The next number that a follower of core wants, as it last said.",
        &[of("*.accepted_seq", "follower")],
    ),
    gauge(
        "pregao_follower_durable_seq",
        "The number up to which a follower of core has the sequence on its disk; 0 if it keeps none.",
        &[of("*.durable_seq", "follower")],
    ),
    // The broker.
    gauge("pregao_broker_reactors", "Threads that serve subscribers.", &[one("reactors")]),
    gauge("pregao_subscribers", "Subscribers of the broker.", &[one("subscribers")]),
    gauge(
        "pregao_subscriptions",
        "Subscriptions by their mode of delivery; of the gateway those of browsers.",
        &[
            when("subscribers.lossless", "mode", "lossless"),
            when("subscribers.latest", "mode", "latest"),
            when("subscribers.conflate", "mode", "conflate"),
        ],
    ),
    histogram(
        "pregao_delivery_seconds",
        "Time from core's stamp on the first frame of a turn to the end of the turn that sent it to subscribers.",
        &[one("delivery_us")],
    ),
    gauge(
        "pregao_broker_memory_bound_bytes",
        "Bytes of memory that the broker can need at most.",
        &[one("memory_bytes_bound")],
    ),
    gauge(
        "pregao_broker_subscriber_bound_bytes",
        "Bytes of memory that one subscriber can cost at most.",
        &[one("subscriber_bytes_bound")],
    ),
    counter(
        "pregao_unread_closed_total",
        "Subscribers that were closed because they took nothing.",
        &[one("unread_closed")],
    ),
    gauge(
        "pregao_broker_watch_list_bytes",
        "Bytes of the lists of what subscribers watch.",
        &[one("watch_list_bytes")],
    ),
    gauge(
        "pregao_source_publisher_up",
        "1 while the publisher of the source is connected to the broker.",
        &[of("source.*.publisher_up", "source")],
    ),
    gauge(
        "pregao_source_stale",
        "1 while the values of the source are marked as stale.",
        &[of("source.*.stale", "source")],
    ),
    gauge("pregao_source_epoch", "The epoch of the source.", &[of("source.*.epoch", "source")]),
    gauge(
        "pregao_source_next_seq",
        "The next number that the broker wants of the source.",
        &[of("source.*.next_seq", "source")],
    ),
    gauge(
        "pregao_source_instruments",
        "Instruments of the source with a last value.",
        &[of("source.*.instruments", "source")],
    ),
    counter(
        "pregao_source_frames_total",
        "Data frames of the source that the broker took.",
        &[of("source.*.frames", "source")],
    ),
    counter(
        "pregao_source_duplicates_total",
        "Data frames of the source that the broker had already.",
        &[of("source.*.duplicates", "source")],
    ),
    counter(
        "pregao_source_gaps_total",
        "How often a subscriber was lapped by the source, and was told of the gap.",
        &[of("source.*.gaps_told", "source")],
    ),
    counter(
        "pregao_source_stalls_total",
        "How often the source had to wait for a reactor of the broker.",
        &[of("source.*.stalls", "source")],
    ),
    // Shards.
    gauge("pregao_shard_trades", "Trades in the shard's index.", &[one("trades")]),
    gauge("pregao_shard_index_bytes", "Bytes of the shard's index.", &[one("index_bytes")]),
    gauge("pregao_shard_queries", "Questions that the shard is answering.", &[one("queries")]),
    gauge(
        "pregao_shard_queries_waiting",
        "Questions that wait in the shard.",
        &[one("queries_waiting")],
    ),
    counter(
        "pregao_shard_damaged_records_total",
        "Records of the shard's log that could not be read.",
        &[one("damaged_records")],
    ),
    // The aggregator.
    gauge(
        "pregao_questions",
        "Questions that the aggregator has not answered.",
        &[one("in_flight")],
    ),
    gauge(
        "pregao_answer_frames_waiting",
        "Frames of answers that wait for whoever asked.",
        &[one("answer_frames_waiting")],
    ),
    counter(
        "pregao_answers_dropped_total",
        "Answers that were dropped because whoever asked did not take them.",
        &[one("answers_dropped")],
    ),
    counter(
        "pregao_questions_total",
        "Questions to the aggregator that began.",
        &[one("gather.begun")],
    ),
    counter(
        "pregao_answers_total",
        "Questions to the aggregator that ended, by how.",
        &[
            when("gather.complete", "outcome", "complete"),
            when("gather.partial", "outcome", "partial"),
            when("gather.failed", "outcome", "failed"),
            when("gather.abandoned", "outcome", "abandoned"),
            when("gather.refused", "outcome", "refused"),
        ],
    ),
    counter(
        "pregao_gather_asked_total",
        "Parts of questions sent to leaves.",
        &[one("gather.asked")],
    ),
    counter(
        "pregao_gather_again_total",
        "Parts of questions that were sent once more, by why.",
        &[
            when("gather.hedged", "reason", "hedged"),
            when("gather.retried", "reason", "retried"),
            when("gather.failed_over", "reason", "failed_over"),
            when("gather.probed", "reason", "probed"),
        ],
    ),
    counter(
        "pregao_gather_hedges_won_total",
        "Parts of questions that the second leaf answered first.",
        &[one("gather.hedges_won")],
    ),
    counter(
        "pregao_gather_hedges_denied_total",
        "Parts of questions that were not sent to a second leaf, to spare the leaves.",
        &[one("gather.hedges_denied")],
    ),
    counter(
        "pregao_gather_useless_answers_total",
        "Answers of leaves that served no question any more, by why.",
        &[when("gather.late", "reason", "late"), when("gather.unexpected", "reason", "unexpected")],
    ),
    gauge(
        "pregao_gather_silent_leaves",
        "Leaves that are asked last because they say nothing.",
        &[one("gather.silent")],
    ),
    histogram(
        "pregao_gather_seconds",
        "Time from a question to a leaf to the end of its answer.",
        &[of("*.gather_us", "leaf")],
    ),
    gauge(
        "pregao_leaf_questions",
        "Questions that a leaf of the aggregator has not answered.",
        &[of("*.questions", "leaf")],
    ),
    // The gateway.
    gauge("pregao_gateway_websockets", "WebSockets of browsers.", &[one("browsers")]),
    gauge(
        "pregao_gateway_event_streams",
        "Streams of server-sent events.",
        &[one("event_streams")],
    ),
    gauge(
        "pregao_gateway_answer_bytes",
        "Bytes of memory that answers of the gateway have until they are sent.",
        &[one("answer_bytes")],
    ),
    counter("pregao_http_requests_total", "Requests of HTTP.", &[one("requests")]),
    counter(
        "pregao_http_problems_total",
        "Requests of HTTP that were answered with a problem.",
        &[one("problems")],
    ),
    counter(
        "pregao_gateway_streams_opened_total",
        "Streams that began, by their form.",
        &[
            when("streams_opened", "form", "websocket"),
            when("event_streams_opened", "form", "events"),
        ],
    ),
    counter(
        "pregao_gateway_closed_total",
        "Streams that the gateway closed, by why.",
        &[when("closed_silent", "reason", "silent"), when("closed_slow", "reason", "slow")],
    ),
    counter(
        "pregao_gateway_wrong_messages_total",
        "Messages of browsers that could not be understood.",
        &[one("wrong_messages")],
    ),
    counter(
        "pregao_gateway_lines_made_total",
        "Lines of JSON that were made.",
        &[one("lines.made")],
    ),
    counter(
        "pregao_gateway_lines_sent_total",
        "Lines of JSON that were sent.",
        &[one("lines.sent")],
    ),
    counter(
        "pregao_gateway_gaps_told_total",
        "How often browsers were told that frames are lost: they were too slow, or what they wanted is not held any more.",
        &[one("gaps_told")],
    ),
    gauge(
        "pregao_gateway_journal_subscriptions",
        "Subscriptions that have begun at a place and do not follow the ring yet.",
        &[one("journal.subscriptions")],
    ),
    counter(
        "pregao_gateway_journal_frames_total",
        "Frames that browsers were sent from core's journal.",
        &[one("journal.frames")],
    ),
    counter(
        "pregao_gateway_journal_given_up_total",
        "Subscriptions that were told of a gap, since core did not have what was before the ring, or not in time.",
        &[one("journal.given_up")],
    ),
    counter(
        "pregao_frames_missed_total",
        "Data frames of the sequence that the gateway never got.",
        &[one("missed")],
    ),
];
