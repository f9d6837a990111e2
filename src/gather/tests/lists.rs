//! Random rows of several instruments on parts with two copies that fail at random, against a plain model:
//! what one node would answer that held the parts of which some copy answers.

use proptest::prelude::*;

use super::*;

/// What a copy does with its question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answers,
    Dies,
    Refuses,
    Silent,
    Away,
}

const SYMBOLS: [&str; 6] = ["DELTA", "ALPHA", "CHARLIE", "FOXTROT", "BRAVO", "ECHO"];
const PARTS: usize = 3;

fn fates() -> impl Strategy<Value = [Fate; 2]> {
    let fate = || {
        prop_oneof![
            5 => Just(Fate::Answers),
            1 => Just(Fate::Dies),
            1 => Just(Fate::Refuses),
            1 => Just(Fate::Silent),
            1 => Just(Fate::Away),
        ]
    };
    [fate(), fate()]
}

fn row(instrument: usize, ts: u64, seq: u64) -> Frame {
    Frame::seal(Trade {
        instrument: U32::new(u32::try_from(instrument).unwrap()),
        ts_event: U64::new(ts),
        seq: U64::new(seq),
        ..Trade::default()
    })
}

fn definition(instrument: usize) -> Frame {
    let symbol = SYMBOLS[instrument].parse().unwrap();
    Frame::seal(Definition::new(U32::new(u32::try_from(instrument).unwrap()).into(), symbol, 2))
}

/// What a part answers: definitions by name, and the rows by instrument.
fn answer_of(part: usize, trades: &[(usize, u64)], limit: usize) -> Vec<Frame> {
    let mut own: Vec<usize> = (0..SYMBOLS.len()).filter(|it| it % PARTS == part).collect();
    own.sort_by_key(|it| SYMBOLS[*it]);
    let mut frames: Vec<Frame> = own.iter().map(|it| definition(*it)).collect();
    for instrument in own {
        let numbered = trades.iter().zip(1..).filter(|((of, _), _)| *of == instrument);
        let mut rows: Vec<(u64, u64)> = numbered.map(|((_, ts), seq)| (*ts, seq)).collect();
        rows.sort_unstable();
        rows.truncate(limit);
        frames.extend(rows.into_iter().map(|(ts, seq)| row(instrument, ts, seq)));
    }
    frames
}

proptest! {
    #[test]
    fn a_list_has_what_the_parts_have_of_which_some_copy_answers(
        fates in prop::collection::vec(fates(), PARTS),
        trades in prop::collection::vec((0..SYMBOLS.len(), 0..30u64), 0..60),
        limit in 1..12usize,
        partial: bool,
    ) {
        let mut query = query(Op::Range, if partial { Query::PARTIAL } else { 0 });
        query.limit = U32::new(u32::try_from(limit).unwrap());
        query.symbol = padded("*");
        let leaf = |part: usize, copy: usize| LeafId(u32::try_from(part + 10 * copy).unwrap());
        let plan: Vec<PartPlan> = (0..PARTS).map(|number| PartPlan {
            question: Question::new(&query).unwrap(),
            replicas: (0..2).map(|copy| {
                let is_away = fates[number][copy] == Fate::Away;
                let why = if is_away { Availability::Refused } else { Availability::Ready };
                replica(leaf(number, copy), why)
            }).collect(),
            is_pruned: false,
        }).collect();
        let mut gather = Gather::new();
        gather.begin_query(START, CLIENT, &query, &plan).unwrap();
        // Silent copies are hedged at 20 ms, when all others have had their say.
        for at in [ms(1), ms(21), ms(22), ms(95)] {
            gather.handle_timeout(at);
            while let Some(ask) = gather.poll_request() {
                let (part, copy) = (ask.leaf.0 as usize % 10, ask.leaf.0 as usize / 10);
                let frames = answer_of(part, &trades, limit);
                match fates[part][copy] {
                    Fate::Answers => {
                        for frame in &frames {
                            let taken = gather.handle_rows(ask.leaf, ask.id(), std::slice::from_ref(frame), at);
                            prop_assert_eq!(taken, FrameOutcome::Taken);
                        }
                        let end = end(EndStatus::Complete, None);
                        let _ = gather.handle_end(ask.leaf, ask.id(), &end, at);
                    }
                    Fate::Dies => {
                        let _ = gather.handle_rows(ask.leaf, ask.id(), &frames[..1], at);
                        gather.handle_leaf_lost(ask.leaf, at);
                    }
                    Fate::Refuses => {
                        let refusal = Refusal::new(ErrorCode::Storage, ask.id(), "broken");
                        let _ = gather.handle_refusal(ask.leaf, ask.id(), &refusal, at);
                    }
                    Fate::Silent | Fate::Away => {}
                }
            }
        }
        while gather.poll_cancel().is_some() {}
        let (answer, data, nodes) = answer(&mut gather);
        let there: Vec<usize> =
            (0..PARTS).filter(|part| fates[*part].contains(&Fate::Answers)).collect();
        let want = match (there.len(), partial) {
            (PARTS, _) => EndStatus::Complete,
            (1.., true) => EndStatus::Partial,
            _ => EndStatus::Failed,
        };
        prop_assert_eq!(answer.status, want);
        // A part is missing exactly when none of its copies is ok.
        let ok: Vec<usize> = (0..PARTS)
            .filter(|part| nodes[2 * part..2 * part + 2].iter().any(|it| it.0 == NodeStatus::Ok))
            .collect();
        prop_assert_eq!(&ok, &there, "{:?}", nodes);
        // The model: one node with all the frames of those parts.
        let mut instruments: Vec<usize> =
            (0..SYMBOLS.len()).filter(|it| there.contains(&(it % PARTS))).collect();
        instruments.sort_by_key(|it| SYMBOLS[*it]);
        let mut model: Vec<Frame> = instruments.iter().map(|it| definition(*it)).collect();
        for instrument in instruments {
            let of_part = answer_of(instrument % PARTS, &trades, limit);
            let number = u32::try_from(instrument).unwrap();
            model.extend(of_part.into_iter().filter(|frame| {
                frame.kind() == Some(Kind::Trade) && frame.instrument.get() == number
            }));
        }
        if want == EndStatus::Failed {
            model.clear();
        }
        prop_assert_eq!(data, model);
    }
}

#[test]
fn instruments_are_counted_as_rows_each_once() {
    let ask = Query { symbol: padded("*"), ..query(Op::Instruments, 0) };
    let plan = [A, B].map(|leaf| part(leaf, Op::Instruments, Availability::Ready));
    let (mut gather, ids) = begun(&ask, &plan);
    reply(&mut gather, &ids, A, &[definition(1), definition(0)]);
    reply(&mut gather, &ids, B, &[definition(0), definition(2)]);
    let (answer, data, _) = answer(&mut gather);
    let end: &Ended = answer.frames.last().unwrap().view().unwrap();
    assert_eq!((data.len(), end.rows.get()), (3, 3));
}

#[test]
fn a_count_that_two_nodes_give_is_taken_once_if_they_agree() {
    let ask = Query { symbol: padded("*"), ..query(Op::Count, 0) };
    for (other, status) in [(7, EndStatus::Complete), (8, EndStatus::Failed)] {
        let plan = [A, B].map(|leaf| part(leaf, Op::Count, Availability::Ready));
        let (mut gather, ids) = begun(&ask, &plan);
        for (leaf, trades) in [(A, 7), (B, other)] {
            let counted = crate::wire::Counted { trades: U64::new(trades), ..Default::default() };
            reply(&mut gather, &ids, leaf, &[Frame::seal(counted)]);
        }
        let answer = gather.poll_answer().unwrap();
        let end: &Ended = answer.frames.last().unwrap().view().unwrap();
        assert_eq!((answer.status, end.rows.get()), (status, u32::from(other == 7)));
    }
}

#[test]
fn bars_of_many_instruments_may_lack_those_of_a_node_that_is_away() {
    for (symbol, status) in [("*", EndStatus::Partial), ("PETR4", EndStatus::Failed)] {
        let ask = Query { symbol: padded(symbol), ..query(Op::Bars, Query::PARTIAL) };
        let away = part(B, Op::Bars, Availability::Refused);
        let plan = [part(A, Op::Bars, Availability::Ready), away];
        let (mut gather, ids) = begun(&ask, &plan);
        reply(&mut gather, &ids, A, &bar(60, 1));
        let answer = gather.poll_answer().unwrap();
        assert_eq!(answer.status, status, "{symbol}");
    }
}

#[test]
fn an_answer_covers_what_all_its_nodes_cover_and_says_when_each_answered() {
    for (from, to, covered) in [(400, 900, (400, 500)), (500, 900, (0, 0)), (600, 900, (0, 0))] {
        let plan = [A, B].map(|leaf| part(leaf, Op::Last, Availability::Ready));
        let (mut gather, ids) = begun(&query(Op::Last, Query::EXPLAIN), &plan);
        let covers = |from, to| Ended {
            covered_from: U64::new(from),
            covered_to: U64::new(to),
            ..end(EndStatus::Complete, None)
        };
        for seq in 1..=2 {
            assert_eq!(gather.row(A, ids[&A], &trade(seq, seq)), FrameOutcome::Taken);
        }
        let ends = [(A, covers(10, 500), ms(3)), (B, covers(from, to), ms(4))];
        for (leaf, end, at) in ends {
            assert_eq!(gather.handle_end(leaf, ids[&leaf], &end, at), FrameOutcome::Taken);
        }
        let (answer, _, _) = answer(&mut gather);
        let last: &Ended = answer.frames.last().unwrap().view().unwrap();
        assert_eq!((last.covered_from.get(), last.covered_to.get()), covered);
        let told = answer.frames.iter().filter_map(Frame::view::<crate::wire::NodeExplain>);
        let told: Vec<(u32, u32, u64)> =
            told.map(|it| (it.answered_us.get(), it.frames.get(), it.bytes.get())).collect();
        assert_eq!(told, [(3_000, 2, 128), (4_000, 0, 0)]);
    }
}
