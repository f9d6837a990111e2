//! What a shard answers: last N, a time range, bars. Answers are found at once and streamed at the
//! asker's pace.

use std::collections::{BTreeMap, BTreeSet};

use super::index::Listed;
use super::{Peer, Shard};
use crate::limits;
use crate::log::{Log, Read, Storage};
use crate::market::bar::BarFold;
use crate::node::ConnId;
use crate::wire::{
    Cancel, EndStatus, Ended, ErrorCode, Flags, Frame, Kind, Op, Query, Refusal, Run, Trade, U32,
    U64,
};

/// An answer on its way out.
#[derive(Debug)]
pub(super) struct Reply {
    id: u32,
    rows: Rows,
    next: usize,
    end: Frame,
}

#[derive(Debug)]
enum Rows {
    /// Log positions, read when they are sent.
    Stored(Vec<u64>),
    /// Frames that were computed.
    Made(Vec<Frame>),
}

impl Reply {
    /// Frames' worth of memory that it holds.
    fn held(&self) -> usize {
        match &self.rows {
            Rows::Stored(positions) => positions.len() / 8,
            Rows::Made(frames) => frames.len(),
        }
    }

    /// Gathers the next frames. `true` when the reply is complete.
    fn fill<S: Storage>(&mut self, log: &Log<S>, out: &mut Vec<Frame>) -> bool {
        let room = limits::FILL_FRAMES_MAX.saturating_sub(out.len());
        let left = match &self.rows {
            Rows::Stored(positions) => {
                let piece = positions[self.next..].iter().take(room);
                out.extend(piece.clone().filter_map(|&position| frame_at(log, position)));
                self.next += piece.len();
                positions.len() - self.next
            }
            Rows::Made(frames) => {
                let piece = &frames[self.next..frames.len().min(self.next + room)];
                out.extend_from_slice(piece);
                self.next += piece.len();
                frames.len() - self.next
            }
        };
        if left == 0 {
            out.push(self.end);
        }
        left == 0
    }
}

fn frame_at<S: Storage>(log: &Log<S>, position: u64) -> Option<Frame> {
    match log.read(position, 1) {
        Read::Frames([frame, ..]) => Some(*frame),
        _ => None,
    }
}

/// The order that trades are folded and merged in.
fn order(frame: &Frame) -> (u64, u64) {
    (frame.ts_event.get(), frame.seq.get())
}

impl<S: Storage> Shard<S> {
    pub(super) fn handle_query(&mut self, conn: ConnId, query: &Query) {
        let answer = match Op::from_number(query.op) {
            Some(Op::Status) => {
                self.status().send(&mut self.links, conn, query.id.get());
                return;
            }
            Some(Op::Stop) => {
                if let Some(Peer::Querier(replies)) = self.links.peer_mut(conn) {
                    replies.retain(|reply| reply.id != query.id.get());
                }
                return;
            }
            Some(Op::Last | Op::Range | Op::Bars) if !self.has_room_for_answer(conn) => {
                Err((ErrorCode::Limit, "too many unread answers on this connection"))
            }
            Some(Op::Last | Op::Range | Op::Bars) => self.answer(query),
            _ => Err((ErrorCode::NotOwner, "a shard answers last, range, bars and status")),
        };
        let (definition, reply) = match answer {
            Ok(answer) => answer,
            Err((code, text)) => {
                self.links.send(conn, Refusal::new(code, query.id.get(), text));
                return;
            }
        };
        let Some(Peer::Querier(replies)) = self.links.peer_mut(conn) else { return };
        replies.push_back(reply);
        self.links.send(conn, Run { id: query.id, ..Run::default() });
        self.links.send_frame(conn, &definition.delivered(Flags::SNAPSHOT));
    }

    /// Whether a connection's unread answers are within their bounds: checked before any work is done.
    fn has_room_for_answer(&self, conn: ConnId) -> bool {
        let Some(Peer::Querier(replies)) = self.links.get(conn).map(|link| &link.peer) else {
            return false;
        };
        let held: usize = replies.iter().map(Reply::held).sum();
        replies.len() < limits::LEAF_QUERIES_MAX && held < limits::ANSWER_FRAMES_PER_CLIENT_MAX
    }

    /// Finds the rows of an answer.
    fn answer(&self, query: &Query) -> Result<(Frame, Reply), (ErrorCode, &'static str)> {
        let unknown = (ErrorCode::UnknownSymbol, "no instrument of this name has any history here");
        let symbol = query.symbol().ok_or(unknown)?;
        let Some((instrument, listed)) = self.index.find(&symbol) else {
            return Err(if self.owns(&symbol) {
                unknown
            } else {
                (ErrorCode::NotOwner, "another shard owns this symbol")
            });
        };
        if Op::from_number(query.op) != Some(Op::Last) && listed.len() > limits::SCAN_TRADES_MAX {
            return Err((ErrorCode::Limit, "more trades than one query may look at"));
        }
        let (from, to, limit) = (query.from.get(), query.to.get(), query.limit.get() as usize);
        let (rows, count) = match Op::from_number(query.op) {
            Some(Op::Last) => {
                let positions = self.last(listed, limit)?;
                let count = positions.len();
                (Rows::Stored(positions), count)
            }
            Some(Op::Range) => {
                let mut found = self.between(listed, from, to)?;
                if limit > 0 {
                    found.truncate(limit);
                }
                let count = found.len();
                (Rows::Made(found), count)
            }
            _ => {
                if limit == 0 || limit > limits::BAR_SECONDS_MAX as usize {
                    return Err((ErrorCode::Limit, "bars are 1 second to 1 day long"));
                }
                let interval_ns = u64::from(query.limit.get()) * 1_000_000_000;
                let frames = self.bars(listed, instrument, from, to, interval_ns)?;
                let count = frames.len() / 3;
                (Rows::Made(frames), count)
            }
        };
        let damaged = self.damaged > 0;
        let end = Ended {
            id: query.id,
            status: if damaged { EndStatus::Partial } else { EndStatus::Complete } as u8,
            rows: U32::new(u32::try_from(count).unwrap_or(u32::MAX)),
            covered_from: U64::new(listed.ts_min.min(listed.ts_max)),
            covered_to: U64::new(listed.ts_max.saturating_add(1)),
            as_of: U64::new(self.log.upstream().1),
            durable_seq: U64::new(self.log.durable_upstream_seq()),
            ..Ended::default()
        };
        let reply = Reply { id: query.id.get(), rows, next: 0, end: Frame::seal(end) };
        Ok((listed.definition, reply))
    }

    /// Positions of the last `limit` trades (cancellations between them come along), oldest first.
    fn last(&self, listed: &Listed, limit: usize) -> Result<Vec<u64>, (ErrorCode, &'static str)> {
        if limit > limits::ANSWER_ROWS_MAX {
            return Err((ErrorCode::Limit, "more rows than one answer may have"));
        }
        let mut positions = Vec::new();
        let mut trades = 0;
        for position in listed.newest_first() {
            if trades >= limit || positions.len() >= limits::ANSWER_ROWS_MAX {
                break;
            }
            let frame = frame_at(&self.log, position);
            trades += usize::from(frame.is_some_and(|f| f.kind == Kind::Trade as u8));
            positions.push(position);
        }
        positions.reverse();
        Ok(positions)
    }

    /// Trades and cancellations with `from <= ts_event < to`, in order.
    fn between(
        &self,
        listed: &Listed,
        from: u64,
        to: u64,
    ) -> Result<Vec<Frame>, (ErrorCode, &'static str)> {
        let mut found = Vec::new();
        for position in listed.within(from, to) {
            let Some(frame) = frame_at(&self.log, position) else { continue };
            if (from..to).contains(&frame.ts_event.get()) {
                found.push(frame);
            }
            if found.len() > limits::ANSWER_ROWS_MAX {
                return Err((
                    ErrorCode::Limit,
                    "more rows than one answer may have; ask for less time",
                ));
            }
        }
        found.sort_unstable_by_key(order);
        Ok(found)
    }

    /// Bars over the trades that still stand.
    fn bars(
        &self,
        listed: &Listed,
        instrument: u32,
        from: u64,
        to: u64,
        interval_ns: u64,
    ) -> Result<Vec<Frame>, (ErrorCode, &'static str)> {
        let cancelled = self.cancelled(listed);
        let mut trades: Vec<Frame> = listed
            .within(from, to)
            .filter_map(|position| frame_at(&self.log, position))
            .filter(|frame| (from..to).contains(&frame.ts_event.get()))
            .filter(|frame| frame.kind == Kind::Trade as u8)
            .filter(|frame| !cancelled.contains(&frame.seq.get()))
            .collect();
        trades.sort_unstable_by_key(order);
        let mut fold = BarFold::new(interval_ns);
        let mut frames = Vec::new();
        for trade in trades.iter().filter_map(Frame::view::<Trade>) {
            frames.extend(fold.add(trade).iter().flat_map(|bar| bar.frames(instrument)));
            if frames.len() > limits::ANSWER_ROWS_MAX {
                return Err((
                    ErrorCode::Limit,
                    "more bars than one answer may have; ask for less time",
                ));
            }
        }
        frames.extend(fold.finish().iter().flat_map(|bar| bar.frames(instrument)));
        Ok(frames)
    }

    /// The `seq` of every trade that a later cancellation took back: the newest trade before it with the
    /// same number, price and quantity that still stood.
    fn cancelled(&self, listed: &Listed) -> BTreeSet<u64> {
        let mut cancelled = BTreeSet::new();
        if listed.cancels == 0 {
            return cancelled;
        }
        let mut standing: BTreeMap<(u64, i64, u64), Vec<u64>> = BTreeMap::new();
        for position in listed.within(0, u64::MAX) {
            let Some(frame) = frame_at(&self.log, position) else { continue };
            if let Some(trade) = frame.view::<Trade>() {
                let key = (trade.trade_id.get(), trade.price.get(), trade.qty.get());
                standing.entry(key).or_default().push(trade.seq.get());
            } else if let Some(cancel) = frame.view::<Cancel>() {
                let key = (cancel.trade_id.get(), cancel.price.get(), cancel.qty.get());
                if let Some(seq) = standing.get_mut(&key).and_then(Vec::pop) {
                    cancelled.insert(seq);
                }
            }
        }
        cancelled
    }

    /// Fills the empty outbox of an asker.
    pub(super) fn refill(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(conn) else { return };
        let Peer::Querier(replies) = &mut link.peer else { return };
        let Some(reply) = replies.front_mut() else { return };
        self.scratch.clear();
        self.scratch.push(Frame::seal(Run { id: U32::new(reply.id), ..Run::default() }));
        if reply.fill(&self.log, &mut self.scratch) {
            replies.pop_front();
        }
        self.links.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
    }
}
