//! A long range, read in pages.

use super::*;

#[test]
fn pages_are_the_whole_range_whatever_stands_at_one_time() {
    let mut world = World::new(7, Order::SometimesLate);
    world.run(1_200);
    let as_of = world.next_seq;
    for by_receive in [false, true] {
        let mut asked = Asked {
            op: Op::Range,
            patterns: vec!["ABEV3"],
            limit: 0,
            from: 0,
            to: u64::MAX,
            by_receive,
            as_of,
            after_seq: 0,
        };
        let rows = |world: &mut World, asked: &Asked| -> Vec<Frame> {
            let is_row = |frame: &Frame| matches!(frame.kind(), Some(Kind::Trade | Kind::Cancel));
            world.ask(asked).into_iter().filter(is_row).collect()
        };
        let whole = rows(&mut world, &asked);
        asked.limit = 1;
        let mut paged: Vec<Frame> = Vec::new();
        loop {
            let page = rows(&mut world, &asked);
            let Some(last) = page.last() else { break };
            (asked.from, asked.after_seq) = (asked.time(last), last.seq.get());
            paged.extend(page);
            assert!(paged.len() <= whole.len(), "a page again");
        }
        assert!(paged == whole && paged.len() > 500, "{} of {}", paged.len(), whole.len());
    }
}
