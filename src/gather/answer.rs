//! The answer to a query: complete, partial or failed, and the frames that say so.

use super::part::{Part, Role};
use super::{Gathering, merge, micros};
use crate::wire::{
    EndStatus, Ended, ErrorCode, Frame, NodeAnswer, NodeStatus, Query, Refusal, Run, U16, U32, U64,
    padded,
};

/// Everything to send to an asker, once per query.
///
/// The frames are: RUN, a definition when a node sent one, the quote, the rows; then one NODE for each
/// node of the plan, in its order; an ERROR with a sentence when the query failed; and END. A failed
/// answer has no RUN and no data.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Who asked.
    pub asker: u64,
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
struct Verdict {
    status: EndStatus,
    code: Option<ErrorCode>,
    text: [u8; 48],
}

impl Verdict {
    fn failed(code: ErrorCode, text: &str) -> Verdict {
        Verdict { status: EndStatus::Failed, code: Some(code), text: padded(text) }
    }
}

/// Makes the answer of a gather whose parts have ended, or that has failed as a whole.
pub(super) fn make(gathering: &Gathering, failure: Option<(ErrorCode, &str)>) -> Answer {
    let parts = &gathering.parts;
    let id = gathering.query.id;
    let mut verdict = match failure {
        Some((code, text)) => Verdict::failed(code, text),
        None => judge(&gathering.query, parts),
    };
    let mut frames = Vec::new();
    let mut rows = 0;
    if verdict.status != EndStatus::Failed {
        match merge::bars(parts) {
            Ok(bars) => {
                let trades = merge::trades(parts, &gathering.query);
                let quotes: Vec<Frame> = answered(parts, Role::Quote).take(1).collect();
                rows = quotes.len() + trades.len() + bars.len() / super::part::BAR_FRAMES;
                frames.push(Frame::seal(Run { id, ..Run::default() }));
                frames.extend(parts.iter().find_map(|part| part.definition));
                frames.extend(quotes);
                frames.extend(trades);
                frames.extend(bars);
            }
            Err(merge::BarsDisagree) => {
                verdict = Verdict::failed(ErrorCode::Failed, "two nodes disagree about a bar");
            }
        }
    }
    frames.extend(parts.iter().map(|part| Frame::seal(node_answer(id, part))));
    let code = verdict.code.map_or(U16::ZERO, |code| U16::new(code as u16));
    if verdict.status == EndStatus::Failed {
        let refusal = Refusal { code, id, text: verdict.text, ..Refusal::default() };
        frames.push(Frame::seal(refusal));
    }
    let mut end = Ended { id, status: verdict.status as u8, code, ..Ended::default() };
    end.rows = number(rows);
    if verdict.status != EndStatus::Failed {
        cover(&mut end, parts);
    }
    frames.push(Frame::seal(end));
    Answer {
        asker: gathering.asker,
        client_query_id: id.get(),
        status: verdict.status,
        code: verdict.code,
        frames,
    }
}

/// Decides how the gather ends.
fn judge(query: &Query, parts: &[Part]) -> Verdict {
    let missing: Vec<&Part> = parts.iter().filter(|part| part.is_missing()).collect();
    if missing.is_empty() {
        return Verdict { status: EndStatus::Complete, code: None, text: [0; 48] };
    }
    // A list with holes is still a list. A sum with holes is wrong; but a quote that is missing
    // beside a whole sum is only a hole.
    let wanted = query.options & Query::PARTIAL != 0;
    let something = parts.iter().any(Part::answered);
    let sum_is_whole = missing.iter().all(|part| part.role != Role::Bars);
    if wanted && something && sum_is_whole {
        let code = Some(ErrorCode::Incomplete);
        return Verdict { status: EndStatus::Partial, code, text: [0; 48] };
    }
    failure(&missing)
}

/// The one code and sentence for what is missing: the nodes' own if they agree.
fn failure(missing: &[&Part]) -> Verdict {
    let code_of = |part: &Part| part.code.filter(|_| part.status == Some(NodeStatus::Failed));
    if let Some(code) = missing.first().and_then(|part| code_of(part))
        && missing.iter().all(|part| code_of(part) == Some(code))
    {
        let said = missing.iter().map(|part| part.text).find(|text| text[0] != 0);
        let text = said.unwrap_or_else(|| padded(sentence(code)));
        return Verdict { status: EndStatus::Failed, code: Some(code), text };
    }
    if missing.iter().all(|part| part.status == Some(NodeStatus::Timeout)) {
        return Verdict::failed(ErrorCode::Deadline, "no answer before the deadline");
    }
    Verdict::failed(ErrorCode::Incomplete, "not every node that owns a part answered")
}

/// What to say when a node gave a code and no sentence.
fn sentence(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnknownSymbol => "no such instrument",
        ErrorCode::NoData => "nothing is known about this yet",
        ErrorCode::Deadline => "no answer before the deadline",
        ErrorCode::Limit => "a limit of a node is reached",
        _ => "a node refused its part of the query",
    }
}

fn answered(parts: &[Part], role: Role) -> impl Iterator<Item = Frame> {
    let answered = parts.iter().filter(move |part| part.role == role && part.answered());
    answered.flat_map(|part| part.rows.iter().copied())
}

fn node_answer(id: U32, part: &Part) -> NodeAnswer {
    NodeAnswer {
        id,
        // A gather that failed as a whole leaves parts open: they were not waited for.
        status: part.status.unwrap_or(NodeStatus::Timeout) as u8,
        rows: number(if part.answered() { part.row_count() } else { 0 }),
        elapsed_us: U32::new(micros(part.elapsed)),
        covered_from: part.end.covered_from,
        covered_to: part.end.covered_to,
        as_of: part.end.as_of,
        name: part.name,
        ..NodeAnswer::default()
    }
}

/// Fills in what the whole answer covers: what all nodes that answered for the history cover.
fn cover(end: &mut Ended, parts: &[Part]) {
    let history = || parts.iter().filter(|part| part.answered() && part.role != Role::Quote);
    let from = history().map(|part| part.end.covered_from.get()).max().unwrap_or(0);
    let to = history().map(|part| part.end.covered_to.get()).min().unwrap_or(0);
    if from < to {
        end.covered_from = U64::new(from);
        end.covered_to = U64::new(to);
    }
    // 0 says nothing, so it does not take part.
    let least = |of: fn(&Ended) -> u64| {
        let ends = parts.iter().filter(|part| part.answered()).map(|part| of(&part.end));
        U64::new(ends.filter(|seq| *seq != 0).min().unwrap_or(0))
    };
    end.as_of = least(|end| end.as_of.get());
    end.durable_seq = least(|end| end.durable_seq.get());
}

fn number(count: usize) -> U32 {
    U32::new(u32::try_from(count).unwrap_or(u32::MAX))
}
