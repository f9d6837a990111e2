//! Random rows on random nodes that fail at random, against a plain model of one node.

use proptest::prelude::*;

use super::*;

/// What a node does with its question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answers,
    AnswersDamaged,
    /// Sends some rows, then is lost.
    Dies(usize),
    /// Sends some rows, then nothing.
    FallsSilent(usize),
    Refuses,
    NotAsked(Availability),
    Pruned,
}

impl Fate {
    fn status(self) -> NodeStatus {
        match self {
            Fate::Answers => NodeStatus::Ok,
            Fate::AnswersDamaged => NodeStatus::Corrupt,
            Fate::Dies(_) | Fate::NotAsked(Availability::Refused) => NodeStatus::Refused,
            Fate::FallsSilent(_) => NodeStatus::Timeout,
            Fate::Refuses => NodeStatus::Failed,
            Fate::Pruned => NodeStatus::Pruned,
            Fate::NotAsked(_) => NodeStatus::BreakerOpen,
        }
    }
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Answers),
        1 => Just(Fate::AnswersDamaged),
        1 => (0..9usize).prop_map(Fate::Dies),
        1 => (0..9usize).prop_map(Fate::FallsSilent),
        1 => Just(Fate::Refuses),
        1 => Just(Fate::Pruned),
        1 => Just(Fate::NotAsked(Availability::Refused)),
        1 => Just(Fate::NotAsked(Availability::BreakerOpen)),
    ]
}

/// What one node that held exactly these trades would answer.
fn single_node(mut rows: Vec<(u64, u64)>, op: Op, limit: usize) -> Vec<(u64, u64)> {
    rows.sort_unstable();
    rows.dedup();
    if op == Op::Last {
        rows.split_off(rows.len().saturating_sub(limit))
    } else {
        rows.truncate(limit);
        rows
    }
}

proptest! {
    #[test]
    fn the_answer_is_that_of_one_node_with_the_rows_of_those_that_answered(
        fates in prop::collection::vec(fates(), 1..7),
        // A time and the owners of each trade, as bits: more than one is a replica.
        trades in prop::collection::vec((0..40u64, 1..128u8), 0..60),
        last: bool,
        partial: bool,
        limit in 1..40usize,
        order in prop::collection::vec(any::<prop::sample::Index>(), 600),
    ) {
        let op = if last { Op::Last } else { Op::Range };
        let held = |node: usize| -> Vec<(u64, u64)> {
            let numbered = trades.iter().zip(1u64..);
            let own = numbered.filter(|((_, owners), _)| owners & (1 << node) != 0);
            own.map(|((ts, _), seq)| (*ts, seq)).collect()
        };
        let mut query = query(op, if partial { Query::PARTIAL } else { 0 });
        query.limit = U32::new(u32::try_from(limit).unwrap());
        let plan: Vec<PartPlan> = fates.iter().zip(0u32..).map(|(fate, node)| {
            let availability = match fate {
                Fate::NotAsked(why) => *why,
                Fate::Pruned => return pruned(LeafId(node), op),
                _ => Availability::Ready,
            };
            part(LeafId(node), op, availability)
        }).collect();
        let (mut gather, ids) = begun(&query, &plan);
        // What each node will send, frame by frame; then all of it in a random interleaving.
        let mut scripts: Vec<(LeafId, VecDeque<Option<Frame>>)> = Vec::new();
        for (node, fate) in fates.iter().enumerate() {
            let rows = single_node(held(node), op, limit);
            let sent = match fate {
                Fate::Dies(sent) | Fate::FallsSilent(sent) => *sent,
                Fate::Refuses | Fate::NotAsked(_) | Fate::Pruned => 0,
                _ => usize::MAX,
            };
            let frames = rows.iter().take(sent).map(|(ts, seq)| Some(trade(*ts, *seq)));
            let mut script: VecDeque<Option<Frame>> = frames.collect();
            if !matches!(fate, Fate::FallsSilent(_) | Fate::NotAsked(_) | Fate::Pruned) {
                script.push_back(None);
            }
            scripts.push((LeafId(u32::try_from(node).unwrap()), script));
        }
        let mut order = order.into_iter();
        loop {
            scripts.retain(|(_, script)| !script.is_empty());
            if scripts.is_empty() {
                break;
            }
            let chosen = order.next().map_or(0, |index| index.index(scripts.len()));
            let (leaf, script) = &mut scripts[chosen];
            let (leaf, id) = (*leaf, ids[leaf]);
            let reply = match (script.pop_front().unwrap(), fates[leaf.0 as usize]) {
                (Some(frame), _) => gather.row(leaf, id, &frame),
                (None, Fate::Answers) => gather.handle_end(leaf, id, &end(EndStatus::Complete, None), ms(2)),
                (None, Fate::AnswersDamaged) => {
                    gather.handle_end(leaf, id, &end(EndStatus::Partial, None), ms(2))
                }
                (None, Fate::Refuses) => {
                    let refusal = Refusal::new(ErrorCode::Storage, id, "broken");
                    gather.handle_refusal(leaf, id, &refusal, ms(2))
                }
                (None, _) => {
                    gather.handle_leaf_lost(leaf, ms(2));
                    FrameOutcome::Taken
                }
            };
            prop_assert_eq!(reply, FrameOutcome::Taken);
        }
        let silent = fates.iter().any(|fate| matches!(fate, Fate::FallsSilent(_)));
        prop_assert_eq!(gather.in_flight(), usize::from(silent), "only the silent are waited for");
        gather.handle_timeout(ms(95));

        let (answer, data, nodes) = answer(&mut gather);
        let statuses: Vec<NodeStatus> = nodes.iter().map(|node| node.0).collect();
        let want: Vec<NodeStatus> = fates.iter().map(|fate| fate.status()).collect();
        prop_assert_eq!(&statuses, &want, "the list of the missing is exact");
        let missing = want.iter().any(|s| !matches!(s, NodeStatus::Ok | NodeStatus::Pruned));
        let something = want.iter().any(|s| matches!(s, NodeStatus::Ok | NodeStatus::Corrupt));
        let status = match (missing, partial && something) {
            (false, _) => EndStatus::Complete,
            (true, true) => EndStatus::Partial,
            (true, false) => EndStatus::Failed,
        };
        prop_assert_eq!(answer.status, status);
        let answering = (0..fates.len())
            .filter(|node| matches!(fates[*node], Fate::Answers | Fate::AnswersDamaged));
        let mut rows = single_node(answering.flat_map(held).collect(), op, limit);
        if status == EndStatus::Failed {
            rows.clear();
        }
        let got: Vec<(u64, u64)> =
            data.iter().map(|row| (row.ts_event.get(), row.seq.get())).collect();
        prop_assert_eq!(got, rows);
    }
}
