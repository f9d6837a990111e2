//! Who may feed a shard: a core whose journal has what the shard has, or one that an operator chose.

use super::*;
use crate::wire::unpadded;

const FEED: u64 = 0xa1;
const OTHER: u64 = 0xb2;

impl Bench {
    /// Core connects, in an epoch with an identity. What the shard says first.
    fn core_of(&mut self, feed: u64, epoch: u32, epoch_start: u64) -> (ConnId, Session) {
        let conn = self.open();
        self.say(conn, Session { options: U16::ZERO, ..of(feed, epoch, epoch_start, 0) });
        let said = self.read(conn)[0];
        (conn, *said.view::<Session>().unwrap())
    }

    fn say(&mut self, conn: ConnId, session: Session) {
        self.deliver(conn, &[Frame::seal(session)]);
    }

    /// A shard with frames 1 to 4 of epoch 1 of [`FEED`].
    fn following() -> Bench {
        let mut bench = Bench::new();
        let (core, said) = bench.core_of(FEED, 1, 1);
        assert_eq!((said.feed.get(), said.next_seq.get()), (FEED, 1), "it had nothing");
        bench.deliver(core, &[definition(1, 0, "ABEV3"), definition(2, 1, "ITUB4")]);
        bench.deliver(core, &[trade(3, 0, 10), trade(4, 0, 11)]);
        // A living feeder keeps its seat.
        bench.shard.handle_close(bench.now, core, CloseReason::Reset);
        bench
    }

    fn held(&mut self) -> Vec<u64> {
        rows(&self.ask(Op::Last, "ABEV3", 10, 0, 0))
    }
}

/// Core's second word.
fn of(feed: u64, epoch: u32, epoch_start: u64, give_up: u16) -> Session {
    let (feed, epoch, epoch_start) = (U64::new(feed), U32::new(epoch), U64::new(epoch_start));
    Session { feed, epoch, epoch_start, ..continues(give_up) }
}

#[test]
fn another_epoch_is_adopted_only_when_core_says_that_it_continues() {
    let mut bench = Bench::following();
    let (core, said) = bench.core_of(OTHER, 2, 5);
    assert_eq!((said.feed.get(), said.epoch.get(), said.next_seq.get()), (FEED, 1, 5));
    // It adopts nothing before that, also not over a restart.
    let mut bench = bench.restart();
    assert_eq!(bench.shard.log.epoch_id(), FEED);
    assert!(bench.shard.connections.peer(core).is_none());
    let (core, _) = bench.core_of(OTHER, 2, 5);
    bench.say(core, of(OTHER, 2, 5, 0));
    let answer = *bench.read(core)[0].view::<Session>().unwrap();
    assert_eq!((answer.feed.get(), answer.epoch.get(), answer.next_seq.get()), (OTHER, 2, 5));
    bench.deliver(core, &[trade(5, 0, 12)]);
    assert_eq!(bench.held(), [3, 4, 5]);
    let mut bench = bench.restart();
    let (_, said) = bench.core_of(OTHER, 2, 5);
    assert_eq!((said.feed.get(), said.next_seq.get()), (OTHER, 6), "the same epoch goes on");
}

#[test]
fn an_equal_number_with_another_identity_is_another_epoch() {
    let mut bench = Bench::following();
    let (core, said) = bench.core_of(OTHER, 1, 1);
    assert_eq!(said.feed.get(), FEED);
    bench.deliver(core, &[trade(5, 0, 12)]);
    assert!(bench.actions.contains(&Action::Close(core)), "it is not greeted");
    assert_eq!(bench.held(), [3, 4]);
    // Nor is one without any, whatever its number.
    for epoch in [1, 2, 9] {
        let (_, said) = bench.core_of(0, epoch, 1);
        assert_eq!((said.feed.get(), said.next_seq.get()), (FEED, 5));
    }
}

#[test]
fn nothing_is_taken_back_unless_somebody_gave_it_up() {
    let mut bench = Bench::following();
    for (options, text) in [(0, "nobody gave it up"), (Session::GIVE_UP, "")] {
        let (core, _) = bench.core_of(OTHER, 2, 4);
        bench.say(core, of(OTHER, 2, 4, options));
        let answer = bench.read(core);
        match answer[0].view::<Refusal>() {
            Some(refusal) => {
                assert!(!text.is_empty() && unpadded(&refusal.text).contains(text));
                assert_eq!(bench.held(), [3, 4]);
            }
            None => assert_eq!(answer[0].view::<Session>().unwrap().next_seq.get(), 4),
        }
    }
    assert_eq!(bench.held(), [3]);
    assert_eq!(bench.shard.log.epoch_id(), OTHER);
}

#[test]
fn a_word_that_answers_nothing_is_not_looked_at() {
    let mut bench = Bench::following();
    let conn = bench.open();
    bench.say(conn, of(OTHER, 2, 1, Session::GIVE_UP));
    let said = *bench.read(conn)[0].view::<Session>().unwrap();
    assert_eq!((said.feed.get(), said.next_seq.get()), (FEED, 5));
    assert_eq!(bench.held(), [3, 4]);
}

#[test]
fn one_that_goes_on_without_a_word_is_refused() {
    let mut bench = Bench::following();
    let (core, _) = bench.core_of(OTHER, 2, 5);
    bench.say(core, Session { options: U16::ZERO, ..of(OTHER, 2, 5, 0) });
    let refused = bench.read(core);
    let text = unpadded(&refused[0].view::<Refusal>().unwrap().text);
    assert!(text.contains("not the sequence"), "{text}");
}

#[test]
fn a_refusal_of_core_is_explained_in_the_shards_own_log() {
    let mut bench = Bench::following();
    let (core, _) = bench.core_of(OTHER, 7, 1);
    let refusal = Refusal::new(ErrorCode::Unexpected, 0, "this journal does not continue it");
    bench.deliver(core, &[Frame::seal(refusal)]);
    let is_told = |action: &Action| {
        matches!(action, Action::Log(Level::Error, text)
            if text.contains("does not continue it") && text.contains("pregao recover")
                && text.contains("00000000000000a1") && text.contains("up to seq 4"))
    };
    assert!(bench.actions.iter().any(is_told), "{:?}", bench.actions);
    assert!(bench.actions.contains(&Action::Close(core)));
    assert_eq!(bench.held(), [3, 4]);
}
