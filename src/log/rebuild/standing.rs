//! Where a log stands in which history, and what of several logs is one history.
//!
//! The rule is core's own when a follower comes (see `node/sequencer`): a log continues a journal when the journal
//! knows the epoch that the log stands in, and had not ended it before the log's end.

use crate::log::counters::Sequence;
use crate::log::inspect::Outline;
use crate::log::lineage::{EpochEntry, Lineage, UNKNOWN_EPOCH_ID};

/// Where one log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The name of its node.
    pub name: String,
    /// Its epochs, and whose journal's they are.
    pub lineage: Lineage,
    /// The epoch of its end; 0 = none has begun.
    pub epoch: u32,
    /// The identity of that epoch; 0 = it has none.
    pub epoch_id: u64,
    /// The seq that comes next: a shard's may lie behind its last frame, when core has told it so.
    pub next_seq: u64,
}

impl Standing {
    /// Where the log of this outline stands.
    #[must_use]
    pub fn of(name: &str, outline: &Outline) -> Standing {
        let (epoch, epoch_id) = outline.epoch();
        let next_seq = match outline.rules.sequence {
            Sequence::Contiguous => outline.counters.next_seq,
            Sequence::Increasing => outline.counters.upstream_seq,
        };
        let lineage = outline.lineage().clone();
        Standing { name: name.to_owned(), lineage, epoch, epoch_id, next_seq }
    }

    /// Whether it has nothing of any history.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.epoch == 0 && self.next_seq <= 1
    }
}

/// How a shard's log is to core's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It has nothing, and follows any journal.
    Empty,
    /// Core goes on feeding it.
    Continues,
    /// An operator decided that it gives up what it has from this seq on.
    GivesUp(u64),
    /// It has frames from this seq on that the journal has lost.
    IsAhead(u64),
    /// The journal does not know its epoch: from some seq on they are two histories.
    IsOther,
}

/// How this shard is to this journal.
#[must_use]
pub fn relation(journal: &Standing, shard: &Standing) -> Relation {
    if shard.is_empty() {
        return Relation::Empty;
    }
    if shard.epoch_id == 0 {
        // An older program gave no identities: the numbers are all there is.
        let is_behind = shard.next_seq <= journal.next_seq && shard.epoch <= journal.epoch;
        return if is_behind { Relation::Continues } else { Relation::IsAhead(journal.next_seq) };
    }
    let Some(end) = journal.lineage.end_of(shard.epoch_id) else { return Relation::IsOther };
    let end_seq = end.seq.unwrap_or(journal.next_seq);
    if shard.next_seq <= end_seq {
        Relation::Continues
    } else if end.is_chosen {
        Relation::GivesUp(end_seq)
    } else {
        Relation::IsAhead(end_seq)
    }
}

/// Which journal is to be made out of the one that is there and of the shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whose journal it is; 0: a new one.
    pub journal_id: u64,
    /// What the journal that is there has below this seq is kept. 1: nothing of it.
    pub keep_below_seq: u64,
    /// What it has of epochs with a greater number is not kept.
    pub keep_epoch: u32,
    /// Epochs that the kept part does not have, ascending, with the seq at which each begins.
    pub epochs: Vec<EpochEntry>,
    /// Epochs of the journal that are given up, or of followers that are.
    pub given_up: Vec<EpochEntry>,
    /// The next seq of the history.
    pub end_seq: u64,
    /// The greatest number of any epoch: the next one is above it.
    pub epoch_max: u32,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No shard holds anything.
    #[error("no shard holds anything that the journal could be rebuilt from")]
    NothingHeld,
    /// Logs of an older program have no identities.
    #[error(
        "{0} was written by an older program and has no identity yet: start the system once with this program, \
         or put the journal back from a copy"
    )]
    NoIdentity(String),
    /// Some of them are of another history.
    #[error(
        "{} of another history than {lead}: have one side give up what it holds, with `pregao recover --reset \
         NODE` for each of its nodes, or all that does not continue the journal with --follow-journal",
        if others.len() == 1 { format!("{} is", others[0]) } else { format!("{} are", others.join(", ")) }
    )]
    TwoHistories {
        /// Who has most of the history that would be taken.
        lead: String,
        /// Who has another.
        others: Vec<String>,
    },
    /// The journal has all that the shards have.
    #[error("nothing is to be rebuilt: the journal has all that the shards hold")]
    NothingToDo,
}

/// How to make the journal of the history that the shards hold.
///
/// # Errors
/// When the shards do not hold one history, or nothing is to be made.
pub fn plan(journal: Option<&Standing>, shards: &[Standing]) -> Result<Plan, PlanError> {
    let mut held: Vec<&Standing> = shards.iter().filter(|shard| !shard.is_empty()).collect();
    held.sort_by_key(|shard| std::cmp::Reverse((shard.next_seq, shard.epoch)));
    let Some(lead) = held.first().copied() else { return Err(PlanError::NothingHeld) };
    // A journal that goes on where all of them stand may have more than they have: it is left alone.
    let goes_on = |journal: &Standing| {
        let related = |shard: &&Standing| relation(journal, shard);
        held.iter().map(related).all(|it| matches!(it, Relation::Continues | Relation::GivesUp(_)))
    };
    if journal.is_some_and(goes_on) {
        return Err(PlanError::NothingToDo);
    }
    let is_nameless = |shard: &&&Standing| matches!(shard.epoch_id, 0 | UNKNOWN_EPOCH_ID);
    if let Some(nameless) = held.iter().find(is_nameless) {
        return Err(PlanError::NoIdentity(nameless.name.clone()));
    }
    let (history, others) = common_history(&held);
    if !others.is_empty() {
        return Err(PlanError::TwoHistories { lead: lead.name.clone(), others });
    }
    let end_seq = held.iter().map(|shard| shard.next_seq).max().unwrap_or(1);
    let of_journal = journal.map(|journal| journal.lineage.entries()).unwrap_or_default();
    let epochs_of = |entries: &[EpochEntry]| entries.iter().map(|entry| entry.epoch).max();
    let epoch_max = epochs_of(of_journal).max(epochs_of(&history)).unwrap_or(0);
    let is_shared =
        |entry: &&EpochEntry| history.iter().any(|other| other.epoch_id == entry.epoch_id);
    let shared = of_journal.iter().filter(|entry| !entry.is_given_up).rfind(is_shared);
    let Some((journal, shared)) = journal.zip(shared) else {
        // There is no journal, or it is another one.
        return Ok(Plan {
            journal_id: lead.lineage.journal_id(),
            keep_below_seq: 1,
            keep_epoch: 0,
            epochs: history,
            given_up: Vec::new(),
            end_seq,
            epoch_max,
        });
    };
    let ended = journal.lineage.end_of(shared.epoch_id).and_then(|end| end.seq);
    let ended_here = ended.unwrap_or(journal.next_seq);
    let later: Vec<EpochEntry> =
        history.iter().filter(|entry| entry.epoch > shared.epoch).copied().collect();
    let ended_there = later.first().map_or(u64::MAX, |entry| entry.first_seq);
    let keep_below_seq = ended_here.min(ended_there).max(1);
    let begins_there = |entry: EpochEntry| {
        let first_seq = entry.first_seq.max(keep_below_seq);
        EpochEntry { first_seq, ..entry }
    };
    let own = of_journal.iter().filter(|entry| !entry.is_given_up && !is_shared(entry));
    let given_up: Vec<EpochEntry> = own
        .filter(|entry| entry.first_seq >= keep_below_seq)
        .map(|entry| EpochEntry { is_given_up: true, first_seq: keep_below_seq, ..*entry })
        .collect();
    Ok(Plan {
        journal_id: journal.lineage.journal_id(),
        keep_below_seq,
        keep_epoch: shared.epoch,
        epochs: later.into_iter().map(begins_there).collect(),
        given_up,
        end_seq: end_seq.max(keep_below_seq),
        epoch_max,
    })
}

/// The epochs of the history that most of these logs are of, ascending, and who is of another. The first log has
/// most of the sequence.
pub(super) fn common_history(held: &[&Standing]) -> (Vec<EpochEntry>, Vec<String>) {
    let mut history: Vec<EpochEntry> = Vec::new();
    let mut accepted: Vec<&Standing> = Vec::new();
    let mut others = Vec::new();
    for shard in held {
        let joined = joined(&history, shard.lineage.entries());
        let fits = |joined: &Vec<EpochEntry>| {
            accepted.iter().chain([shard]).all(|shard| {
                let lineage = lineage_of(joined);
                let end = lineage.end_of(shard.epoch_id);
                end.is_some_and(|end| end.seq.is_none_or(|seq| shard.next_seq <= seq))
            })
        };
        match joined.filter(fits) {
            Some(joined) => {
                history = joined;
                accepted.push(shard);
            }
            None => others.push(shard.name.clone()),
        }
    }
    (history, others)
}

/// Both lists as one; `None` when they give one number to two epochs. A log that was away states for an epoch where
/// it followed it from, which is at or before its beginning: the later seq is right.
fn joined(history: &[EpochEntry], entries: &[EpochEntry]) -> Option<Vec<EpochEntry>> {
    let mut joined = history.to_vec();
    for entry in entries.iter().filter(|entry| !entry.is_given_up) {
        match joined.binary_search_by_key(&entry.epoch, |known| known.epoch) {
            Ok(place) if joined[place].epoch_id == entry.epoch_id => {
                let known = &mut joined[place];
                known.first_seq = known.first_seq.max(entry.first_seq);
                known.is_chosen |= entry.is_chosen;
            }
            Ok(_) => return None,
            Err(place) => joined.insert(place, *entry),
        }
    }
    Some(joined)
}

fn lineage_of(entries: &[EpochEntry]) -> Lineage {
    let mut lineage = Lineage::default();
    entries.iter().for_each(|entry| lineage.note(*entry));
    lineage
}

/// How to go on with a journal whose end is missing, where every shard continues what is left of it.
#[must_use]
pub fn plan_to_go_on(journal: &Standing) -> Plan {
    let epochs = journal.lineage.entries().iter().map(|entry| entry.epoch);
    Plan {
        journal_id: journal.lineage.journal_id(),
        keep_below_seq: journal.next_seq,
        keep_epoch: u32::MAX,
        end_seq: journal.next_seq,
        epoch_max: epochs.max().unwrap_or(0),
        ..Plan::default()
    }
}

/// How to have the shards follow the journal that is there: which epochs of theirs are given up.
///
/// # Errors
/// When a shard holds another journal's history, or every shard continues the journal.
pub fn plan_to_follow(journal: &Standing, shards: &[Standing]) -> Result<Plan, PlanError> {
    let mut plan = plan_to_go_on(journal);
    let mut others = Vec::new();
    let mut is_needed = false;
    for shard in shards {
        let entries = shard.lineage.entries();
        plan.epoch_max = entries.iter().map(|entry| entry.epoch).fold(plan.epoch_max, u32::max);
        match relation(journal, shard) {
            Relation::Empty | Relation::Continues | Relation::GivesUp(_) => continue,
            Relation::IsAhead(_) => is_needed = true,
            Relation::IsOther => {
                is_needed = true;
                let known = |entry: &&EpochEntry| journal.lineage.end_of(entry.epoch_id).is_some();
                let Some(shared) = entries.iter().rfind(known) else {
                    others.push(shard.name.clone());
                    continue;
                };
                let ended = journal.lineage.end_of(shared.epoch_id).and_then(|end| end.seq);
                let own = entries.iter().filter(|entry| entry.epoch > shared.epoch);
                let ended_there = own.clone().map(|entry| entry.first_seq).min();
                let first_seq =
                    ended.unwrap_or(journal.next_seq).min(ended_there.unwrap_or(u64::MAX));
                plan.given_up.extend(own.map(|entry| EpochEntry {
                    is_given_up: true,
                    first_seq: first_seq.max(1),
                    ..*entry
                }));
            }
        }
    }
    plan.given_up.sort_by_key(|entry| (entry.epoch, entry.epoch_id, entry.first_seq));
    plan.given_up.dedup_by_key(|entry| entry.epoch_id);
    match (others.is_empty(), is_needed) {
        (false, _) => Err(PlanError::TwoHistories { lead: journal.name.clone(), others }),
        (true, false) => Err(PlanError::NothingToDo),
        (true, true) => Ok(plan),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: u32, epoch_id: u64, first_seq: u64) -> EpochEntry {
        EpochEntry { epoch, epoch_id, first_seq, is_chosen: false, is_given_up: false }
    }

    fn chosen(epoch: u32, epoch_id: u64, first_seq: u64) -> EpochEntry {
        EpochEntry { is_chosen: true, ..entry(epoch, epoch_id, first_seq) }
    }

    fn given_up(epoch: u32, epoch_id: u64, first_seq: u64) -> EpochEntry {
        EpochEntry { is_given_up: true, ..entry(epoch, epoch_id, first_seq) }
    }

    /// A log that stands in the last of these epochs.
    fn log(name: &str, entries: &[EpochEntry], next_seq: u64) -> Standing {
        let mut lineage = lineage_of(entries);
        lineage.set_journal_id(7);
        let last = entries.last();
        let (epoch, epoch_id) = last.map_or((0, 0), |entry| (entry.epoch, entry.epoch_id));
        Standing { name: name.to_owned(), lineage, epoch, epoch_id, next_seq }
    }

    #[test]
    fn a_shard_continues_a_journal_up_to_where_its_epoch_ended_there() {
        let first = entry(1, 101, 1);
        let journal = log("core", &[first, entry(2, 102, 50), chosen(3, 103, 80)], 90);
        let is =
            |entries: &[EpochEntry], next_seq| relation(&journal, &log("s", entries, next_seq));
        assert_eq!((is(&[], 0), is(&[], 1)), (Relation::Empty, Relation::Empty));
        assert_eq!(is(&[first], 1), Relation::Continues, "it has an epoch");
        assert_eq!(
            (is(&[first], 50), is(&[first], 51)),
            (Relation::Continues, Relation::GivesUp(50))
        );
        let third = [chosen(3, 103, 80)];
        assert_eq!((is(&third, 90), is(&third, 91)), (Relation::Continues, Relation::IsAhead(90)));
        assert_eq!(is(&[entry(2, 999, 50)], 60), Relation::IsOther);
        let plain = log("core", &[first, entry(2, 102, 50)], 90);
        assert_eq!(relation(&plain, &log("s", &[first], 51)), Relation::IsAhead(50));
    }

    /// An older program gave no identities.
    #[test]
    fn logs_without_identities_are_held_against_each_other_by_their_numbers() {
        let nameless = |epoch, next_seq| Standing { epoch, next_seq, ..log("s", &[], 1) };
        let journal = nameless(3, 90);
        assert_eq!(relation(&journal, &nameless(3, 90)), Relation::Continues);
        assert_eq!(relation(&journal, &nameless(3, 91)), Relation::IsAhead(90));
        assert_eq!(relation(&journal, &nameless(4, 90)), Relation::IsAhead(90));
        assert_eq!(relation(&journal, &nameless(0, 2)), Relation::Continues);
        let refused = plan(Some(&journal), &[nameless(3, 91)]).unwrap_err();
        assert_eq!(refused, PlanError::NoIdentity("s".to_owned()));
        let unknown = Standing { epoch_id: UNKNOWN_EPOCH_ID, ..nameless(3, 20) };
        assert_eq!(plan(None, &[unknown]).unwrap_err(), refused);
    }

    #[test]
    fn the_history_is_that_of_who_has_most_of_it() {
        let short = log("short", &[entry(1, 201, 1)], 60);
        let long = log("long", &[entry(1, 101, 1), entry(2, 102, 50)], 70);
        let behind = log("behind", &[entry(1, 101, 1)], 50);
        let ahead = log("ahead", &[entry(1, 101, 1)], 51);
        let empty = log("empty", &[], 1);
        let refused = plan(None, &[short.clone(), behind.clone(), long.clone()]).unwrap_err();
        let others = vec!["short".to_owned()];
        assert_eq!(refused, PlanError::TwoHistories { lead: "long".to_owned(), others });
        let refused = plan(None, &[ahead, long.clone()]).unwrap_err();
        assert!(refused.to_string().contains("ahead is of another history than long"), "{refused}");
        // One that has most, and stood still where another has gone on, is of another history than that.
        let most = log("most", &[entry(1, 101, 1)], 90);
        let refused = plan(None, &[most, long.clone()]).unwrap_err();
        let others = vec!["long".to_owned()];
        assert_eq!(refused, PlanError::TwoHistories { lead: "most".to_owned(), others });
        let made = plan(None, &[behind, empty.clone(), long]).unwrap();
        let epochs = vec![entry(1, 101, 1), entry(2, 102, 50)];
        let wanted = Plan {
            journal_id: 7,
            keep_below_seq: 1,
            epochs,
            end_seq: 70,
            epoch_max: 2,
            ..Plan::default()
        };
        assert_eq!(made, wanted);
        assert_eq!(plan(None, &[empty]), Err(PlanError::NothingHeld));
    }

    /// A log that was away followed the epoch from before its beginning.
    #[test]
    fn an_epoch_began_where_the_last_of_the_logs_says() {
        let from = |seq, chosen: bool, next_seq| {
            let second = EpochEntry { is_chosen: chosen, ..entry(2, 102, seq) };
            log("s", &[entry(1, 101, 1), second, given_up(3, 300, 1)][..2], next_seq)
        };
        for logs in
            [[from(40, false, 70), from(50, true, 60)], [from(50, true, 70), from(40, false, 60)]]
        {
            assert_eq!(plan(None, &logs).unwrap().epochs, [entry(1, 101, 1), chosen(2, 102, 50)]);
        }
    }

    #[test]
    fn a_journal_is_kept_up_to_where_the_first_of_the_two_left_the_other() {
        let first = entry(1, 101, 1);
        let shard = log("s", &[first, entry(3, 103, 70), entry(4, 104, 75)], 120);
        // What the journal began alone, at or behind that, is given up.
        for begun in [70, 80] {
            let alone = [first, given_up(1, 900, 3), entry(5, 205, begun)];
            let made = plan(Some(&log("core", &alone, 90)), std::slice::from_ref(&shard)).unwrap();
            let wanted = Plan {
                journal_id: 7,
                keep_below_seq: 70,
                keep_epoch: 1,
                epochs: vec![entry(3, 103, 70), entry(4, 104, 75)],
                given_up: vec![given_up(5, 205, 70)],
                end_seq: 120,
                epoch_max: 5,
            };
            assert_eq!(made, wanted);
        }
        // The journal ended before.
        let made = plan(Some(&log("core", &[first, entry(2, 202, 60)], 90)), &[shard]).unwrap();
        assert_eq!((made.keep_below_seq, made.keep_epoch, made.epoch_max), (60, 1, 4));
        assert_eq!(made.epochs, [entry(3, 103, 70), entry(4, 104, 75)]);
        assert_eq!(made.given_up, [given_up(2, 202, 60)]);
        // It went on alone and has more numbers than they have.
        let shard = log("s", &[first, entry(3, 103, 70)], 72);
        let made = plan(Some(&log("core", &[first], 65)), std::slice::from_ref(&shard)).unwrap();
        assert_eq!((made.keep_below_seq, made.end_seq, made.epochs.len()), (65, 72, 1));
        let goes_on = log("core", &[first, chosen(3, 303, 2)], 90);
        let gives_up = log("s", &[first], 40);
        assert_eq!(plan(Some(&goes_on), &[gives_up]), Err(PlanError::NothingToDo));
    }

    #[test]
    fn a_journal_without_a_common_epoch_is_not_kept() {
        let shard = log("s", &[entry(1, 101, 1)], 40);
        let other = log("core", &[entry(1, 201, 1), given_up(6, 101, 9)], 90);
        let other = Standing { epoch: 1, epoch_id: 201, ..other };
        // An epoch that it has given up is none of its own.
        assert_eq!(plan(Some(&other), std::slice::from_ref(&shard)), Err(PlanError::NothingToDo));
        let other = log("core", &[entry(8, 201, 1)], 90);
        let made = plan(Some(&other), &[shard]).unwrap();
        assert_eq!((made.keep_below_seq, made.keep_epoch, made.epoch_max), (1, 0, 8));
    }

    #[test]
    fn shards_that_follow_a_journal_give_up_each_epoch_once() {
        let first = entry(1, 101, 1);
        let journal = log("core", &[first, entry(2, 102, 50)], 90);
        let copy = |name| log(name, &[first, entry(3, 303, 40), entry(4, 304, 60)], 99);
        let made = plan_to_follow(&journal, &[copy("s"), copy("s.1")]).unwrap();
        assert_eq!(made.given_up, [given_up(3, 303, 40), given_up(4, 304, 40)]);
        let kept = (made.keep_below_seq, made.keep_epoch, made.end_seq, made.epoch_max);
        assert_eq!((kept, made.journal_id), ((90, u32::MAX, 90, 4), 7));
        // Where the journal left the common epoch before the shard did.
        let later = log("s", &[first, entry(3, 303, 70)], 99);
        let made = plan_to_follow(&journal, &[later]).unwrap();
        assert_eq!(made.given_up, [given_up(3, 303, 50)]);
        let standing_alone = log("s", &[entry(9, 909, 1)], 99);
        let refused = plan_to_follow(&journal, &[standing_alone, copy("s.1")]).unwrap_err();
        let others = vec!["s".to_owned()];
        assert_eq!(refused, PlanError::TwoHistories { lead: "core".to_owned(), others });
    }

    #[test]
    fn only_a_shard_that_does_not_continue_the_journal_needs_a_plan() {
        let first = entry(1, 101, 1);
        let journal = log("core", &[first, entry(2, 102, 50)], 90);
        let (continues, ahead) = (log("s", &[first], 50), log("t", &[first], 51));
        let empty = log("u", &[], 1);
        let refused = plan_to_follow(&journal, &[continues.clone(), empty]);
        assert_eq!(refused, Err(PlanError::NothingToDo));
        let made = plan_to_follow(&journal, &[continues, ahead]).unwrap();
        assert_eq!((made.given_up, made.epoch_max), (vec![], 2));
    }
}
