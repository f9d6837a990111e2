//! The answer to a query: complete, partial or failed, and the frames that say so.
//!
//! # Decisions
//!
//! * A sum over several instruments may be partial: each instrument is whole in one part, so the bars of
//!   the parts that answered are right. Bars of one instrument are refused instead. Figures over all
//!   instruments are refused unless a partial answer is allowed.

use super::gathering::{
    Attempt, AttemptKind, BAR_FRAMES, Gathering, Outcome, Part, RowKind, micros,
};
use super::merge;
use crate::wire::{
    Counted, EndStatus, Ended, ErrorCode, FRAME_BYTES, Frame, NodeAnswer, NodeExplain, Op, Query,
    Refusal, Run, Seq, U16, U32, U64, padded, unpadded,
};

/// Everything to send to a client, once per query.
///
/// The frames are: RUN, the definitions that nodes sent, by symbol; in their order the quote and the rows of
/// each instrument; then one NODE for each copy of each part of the plan, in its order (with a NODE_EXPLAIN
/// behind each if wanted); an ERROR with a sentence when the query failed; and END. A failed answer has no
/// RUN and no data.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Who asked.
    pub client: u64,
    /// By which number.
    pub client_query_id: u32,
    /// As in the END frame.
    pub status: EndStatus,
    /// As in the END frame.
    pub code: Option<ErrorCode>,
    /// To be sent as they stand.
    pub frames: Vec<Frame>,
}

/// How a gather ends.
struct GatherOutcome {
    status: EndStatus,
    code: Option<ErrorCode>,
    text: [u8; 48],
}

impl GatherOutcome {
    fn failed(code: ErrorCode, text: &str) -> GatherOutcome {
        GatherOutcome { status: EndStatus::Failed, code: Some(code), text: padded(text) }
    }
}

/// Makes the answer of a gather whose parts have ended, or that has failed as a whole.
pub(super) fn make(gathering: &Gathering, failure: Option<(ErrorCode, &str)>) -> Answer {
    let parts = gathering.parts();
    let query = gathering.query();
    let id = query.id;
    let mut outcome = match failure {
        Some((code, text)) => GatherOutcome::failed(code, text),
        None => decide(gathering, parts),
    };
    let nodes: usize = parts.iter().map(|part| part.replicas().len()).sum();
    // All rows, twice the nodes for those who want it explained, and what stands around them.
    let mut frames = Vec::with_capacity(gathering.frames().saturating_add(nodes * 2 + 2));
    let mut rows = 0;
    if outcome.status != EndStatus::Failed {
        match merge::groups(parts, query) {
            Ok(groups) => rows = write(query, &groups, &mut frames),
            Err(merge::Disagree) => {
                outcome =
                    GatherOutcome::failed(ErrorCode::Failed, "two nodes disagree about a figure");
            }
        }
    }
    let explain = query.options & Query::EXPLAIN != 0;
    for (part, number) in parts.iter().zip(0..) {
        for outcome in part.outcomes() {
            frames.push(Frame::seal(node_answer(id, &outcome)));
            if explain {
                frames.push(Frame::seal(node_explain(gathering, number, &outcome)));
            }
        }
    }
    if outcome.status == EndStatus::Complete && rows == 0 && query.op == Op::Quote as u8 {
        // As core says it: the instrument is known, and has no quote.
        outcome.code = Some(ErrorCode::NoData);
    }
    let code = outcome.code.map_or(U16::ZERO, |code| U16::new(code as u16));
    if outcome.status == EndStatus::Failed {
        let refusal = Refusal { code, id, text: outcome.text, ..Refusal::default() };
        frames.push(Frame::seal(refusal));
    }
    let mut end = Ended { id, status: outcome.status as u8, code, ..Ended::default() };
    end.rows = number(rows);
    if outcome.status != EndStatus::Failed {
        cover(&mut end, gathering);
    } else if outcome.code == Some(ErrorCode::Behind) {
        // What could have been asked for.
        end.as_of = Seq::field(reached(parts));
    }
    frames.push(Frame::seal(end));
    Answer {
        client: gathering.client_query().client,
        client_query_id: id.get(),
        status: outcome.status,
        code: outcome.code,
        frames,
    }
}

/// Writes RUN, definitions and rows, and returns the number of the rows.
fn write(query: &Query, groups: &[merge::Group], frames: &mut Vec<Frame>) -> usize {
    let id = query.id;
    let kind = RowKind::of(query);
    frames.push(Frame::seal(Run { id, ..Run::default() }));
    for group in groups {
        frames.extend(group.definition);
        frames.extend(group.full_name.frames());
    }
    let defined = groups.iter().filter(|group| group.definition.is_some()).count();
    let mut count = if kind == Some(RowKind::Instruments) { defined } else { 0 };
    for group in groups {
        count += usize::from(group.quote.is_some());
        count += match kind {
            Some(RowKind::Bars) => group.rows.len() / BAR_FRAMES,
            _ => group.rows.len(),
        };
        frames.extend(group.quote);
        frames.extend(group.rows.iter().map(|row| match row.view::<Counted>() {
            // It carries the number of the query that it answers.
            Some(counted) => Frame::seal(Counted { id, ..*counted }),
            None => *row,
        }));
    }
    count
}

/// Decides how the gather ends.
fn decide(gathering: &Gathering, parts: &[Part]) -> GatherOutcome {
    let nobody_knows = is_known_to_nobody(gathering);
    let is_unknown = |part: &Part| nobody_knows && part.keeps_history();
    let missing: Vec<&Part> =
        parts.iter().filter(|part| part.is_missing() || is_unknown(part)).collect();
    if missing.is_empty() {
        return GatherOutcome { status: EndStatus::Complete, code: None, text: [0; 48] };
    }
    // A list with holes is still a list. A sum with holes is wrong; but a quote that is missing
    // beside a whole sum is only a hole, and so are the instruments of a part that is away beside
    // those of the others.
    let wanted = gathering.query().options & Query::PARTIAL != 0;
    let something = parts.iter().any(|part| part.chosen().is_some() && !is_unknown(part));
    // A sum of a node that is behind is right as of its own place.
    let is_hole = |part: &&Part| {
        !part.rows().is_sum() || part.is_behind() || gathering.is_list() && part.chosen().is_none()
    };
    let sum_is_whole = missing.iter().all(is_hole);
    if wanted && something && sum_is_whole {
        let code = Some(ErrorCode::Incomplete);
        return GatherOutcome { status: EndStatus::Partial, code, text: [0; 48] };
    }
    failure(&missing, is_unknown)
}

/// Whether it is about one name of which each part that may have it says that it has nothing. Alone it would have said
/// that the name is unknown.
fn is_known_to_nobody(gathering: &Gathering) -> bool {
    let mut asked = gathering.parts().iter().filter(|part| part.keeps_history());
    gathering.is_spread() && asked.all(|part| part.is_answered_in_full() && part.knows_nothing())
}

/// The one code and sentence for what is missing: the nodes' own if they agree. Parts that are `is_unknown` say that the
/// symbol is.
fn failure(missing: &[&Part], is_unknown: impl Fn(&Part) -> bool) -> GatherOutcome {
    if missing.iter().any(|part| part.is_over_limit()) {
        return GatherOutcome::failed(ErrorCode::Limit, "too many questions are open at a node");
    }
    if let Some(first) = missing.first()
        && missing.iter().all(|part| part.is_behind())
    {
        return GatherOutcome::failed(ErrorCode::Behind, &behind_sentence(first));
    }
    let code_of = |part: &Part| match is_unknown(part) {
        true => Some(ErrorCode::UnknownSymbol),
        false => part.failure().map(|(code, _)| code),
    };
    if let Some(code) = missing.first().and_then(|part| code_of(part))
        && missing.iter().all(|part| code_of(part) == Some(code))
    {
        let mut texts = missing.iter().filter_map(|part| Some(part.failure()?.1));
        let given = texts.find(|text| text[0] != 0);
        let text = given.unwrap_or_else(|| padded(sentence(code)));
        return GatherOutcome { status: EndStatus::Failed, code: Some(code), text };
    }
    if missing.iter().all(|part| part.has_timed_out()) {
        return GatherOutcome::failed(ErrorCode::Deadline, "no answer before the deadline");
    }
    GatherOutcome::failed(ErrorCode::Incomplete, "not every node that owns a part answered")
}

/// Says who is behind, and how far.
fn behind_sentence(part: &Part) -> String {
    let name = part.chosen_name().map_or_else(String::new, |name| unpadded(&name));
    let behind_ms = part.chosen().map_or(0, |attempt| attempt.end_frame().behind_ms.get());
    match NodeAnswer::behind_s_of(behind_ms) {
        NodeAnswer::BEHIND_UNKNOWN if part.is_cut_old() => {
            "the common cut may be old; ask again".to_owned()
        }
        NodeAnswer::BEHIND_UNKNOWN => format!("{name} has not reached core since its start"),
        seconds => format!("{name} is {seconds} s behind core"),
    }
}

/// What to say when a node gave a code and no sentence.
fn sentence(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnknownSymbol => "no such instrument",
        ErrorCode::NoData => "nothing is known about this yet",
        ErrorCode::Deadline => "no answer before the deadline",
        ErrorCode::Limit => "a limit of a node is reached",
        ErrorCode::Behind => "a node is not yet at that cut",
        _ => "a node refused its part of the query",
    }
}

fn node_answer(id: U32, outcome: &Outcome<'_>) -> NodeAnswer {
    let (status, name) = (outcome.status as u8, outcome.name);
    let Some(attempt) = outcome.attempt else {
        return NodeAnswer { id, status, name, ..NodeAnswer::default() };
    };
    let end = attempt.end_frame();
    NodeAnswer {
        id,
        status,
        rows: number(attempt.row_count()),
        elapsed_us: U32::new(micros(attempt.elapsed())),
        behind_s: U16::new(NodeAnswer::behind_s_of(end.behind_ms.get())),
        covered_from: end.covered_from,
        covered_to: end.covered_to,
        as_of: end.as_of,
        name,
        ..NodeAnswer::default()
    }
}

fn node_explain(gathering: &Gathering, part: u16, outcome: &Outcome<'_>) -> NodeExplain {
    let mut explain = NodeExplain {
        id: gathering.query().id,
        part: U16::new(part),
        copy: outcome.replica,
        name: outcome.name,
        ..NodeExplain::default()
    };
    let Some(attempt) = outcome.attempt else { return explain };
    let begun = attempt.begun().since(gathering.begun());
    for (flag, is_set) in [
        (NodeExplain::ASKED, true),
        (NodeExplain::HEDGED, attempt.kind() == AttemptKind::Hedge),
        (NodeExplain::RETRIED, attempt.kind() == AttemptKind::Retry),
        (NodeExplain::FAILED_OVER, attempt.kind() == AttemptKind::Failover),
        (NodeExplain::CHOSEN, outcome.is_chosen),
    ] {
        explain.what |= if is_set { flag } else { 0 };
    }
    explain.asked_us = U32::new(micros(begun));
    explain.answered_us = U32::new(micros(begun + attempt.elapsed()));
    explain.frames = U32::new(attempt.frames_received());
    explain.bytes = U64::new(u64::from(attempt.frames_received()) * FRAME_BYTES as u64);
    explain
}

/// Fills in what the whole answer covers: what all nodes that answered for the history cover.
fn cover(end: &mut Ended, gathering: &Gathering) {
    let parts = || gathering.parts().iter();
    let chosen = || parts().filter_map(|part| part.chosen()).map(Attempt::end_frame);
    // Of one name that several parts may have, a part that does not know it has nothing to cover.
    let covers = |part: &&Part| !(gathering.is_spread() && part.knows_nothing());
    let history = || parts().filter(|part| part.keeps_history()).filter(covers);
    let history = || history().filter_map(|part| part.chosen()).map(Attempt::end_frame);
    let from = history().map(|end| end.covered_from.get()).max().unwrap_or(0);
    let to = history().map(|end| end.covered_to.get()).min().unwrap_or(0);
    if from < to {
        end.covered_from = U64::new(from);
        end.covered_to = U64::new(to);
    }
    // Of one that does not say it, it is not known.
    let least = |of: fn(&Ended) -> Option<Seq>| Seq::field(chosen().filter_map(of).min());
    end.as_of = least(Ended::as_of);
    end.durable_seq = least(Ended::durable_seq);
    let behind = chosen().map(|end| end.behind_ms.get()).max();
    end.behind_ms = U32::new(behind.unwrap_or(0));
}

/// The newest cut that a copy of every part has reached, as far as they have said.
fn reached(parts: &[Part]) -> Option<Seq> {
    let asked = parts.iter().filter(|part| !part.is_pruned());
    let of_part = |part: &Part| {
        part.outcomes().filter_map(|outcome| outcome.attempt?.end_frame().as_of()).max()
    };
    asked.map(of_part).min().flatten()
}

fn number(count: usize) -> U32 {
    U32::new(u32::try_from(count).unwrap_or(u32::MAX))
}
