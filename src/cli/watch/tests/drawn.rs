//! Whole screens, cell by cell.

use super::*;

/// Fifty bars, up and down, with a gap in time, a revised one and an incomplete one.
fn full(size: (u16, u16)) -> Watch {
    let mut watch = three(size);
    press(&mut watch, &[Key::Enter]);
    watch.handle(at(0), Input::Chosen(1, live(1_000)));
    let minutes = (0..50_u64).filter(|it| !(20..23).contains(it));
    let bars = minutes.map(|minute| {
        let swing = i64::from([0, 7, 12, 9, 3, -4, -9, -6][usize::try_from(minute % 8).unwrap()]);
        let close = 4_120 + swing + i64::try_from(minute).unwrap() / 2;
        let cents = [4_118 + i64::try_from(minute).unwrap() / 2, close + 3, close - 4, close];
        let trades = cents.map(|cents| trade(1, 10 + minute, minute * 60_000, cents));
        bar(60, &trades)
    });
    let history = History {
        bars: bars.collect(),
        trades: vec![trade(1, 59, 49 * 60_000, 4_140)],
        as_of: Seq::new(1_000),
        missing: Vec::new(),
    };
    watch.handle(at(0), Input::History(1, Ok(history)));
    let now = at(50 * 60_000);
    watch.handle(now, Input::Chosen(1, traded(1, 1_001, 45 * 60_000, 4_150)));
    watch.handle(now, Input::Chosen(1, traded(1, 1_002, 49 * 60_000 + 1_000, 4_141)));
    let gap = lost(GapReason::SourceLost, Some(number(1)), Some(12));
    watch.handle(now, Input::Chosen(1, gap));
    watch.handle(now, Input::Chosen(1, traded(1, 1_030, 49 * 60_000 + 9_000, 4_139)));
    watch
}

#[test]
fn the_list_in_80_columns() {
    let mut watch = three((80, 24));
    watch.handle(at(20), Input::List(traded(1, 12, 20, 4_121)));
    watch.handle(at(20), Input::Reports(reports("closed", Reachability::Ok)));
    watch.handle_time(at(1_300));
    let screen = screen(&watch);
    let want = "
 pregao watch   LIVE   3 instruments, 4 updates/s                  13:30:01 UTC
 ▸1 list   2 instrument   3 system                                    by symbol
  SYMBOL       LAST    CHG%      BID      ASK  BIDSZ  ASKSZ   VOLUME       AGE
▸ PETR4      41.21▲       -    41.20    41.21    300   1200        -      1.2s
  VALE3          -        -    58.58    58.61    300   1200        -      1.3s
  WDOQ26   5464.50        -  5463.00  5464.50    300   1200        -      1.3s";
    assert_eq!(screen[..6].join("\n"), want[1..], "\n{}", screen.join("\n"));
    assert_eq!(screen[22], " OK: the market flows; nothing has come since core started");
    assert!(screen[23].ends_with("? help  q quit"), "{}", screen[23]);
    // A row of the table is 80 columns at most, with every column of the list in it.
    assert!(screen.iter().all(|line| line.chars().count() <= 80));
}

#[test]
fn a_stale_list_is_told_without_colours() {
    let mut watch = three((80, 24));
    watch.handle(at(100), Input::List(Event::Stale));
    watch.handle_time(at(12_000));
    let screen = screen(&watch);
    let want = "
 pregao watch   STALE for 11s   3 instruments, 0 updates/s         13:30:12 UTC
 ▸1 list   2 instrument   3 system                                    by symbol
  SYMBOL       LAST    CHG%      BID      ASK  BIDSZ  ASKSZ   VOLUME       AGE
▸~PETR4      41.20        -    41.20    41.21    300   1200        -   old 12s
 ~VALE3          -        -    58.58    58.61    300   1200        -   old 12s
 ~WDOQ26   5464.50        -  5463.00  5464.50    300   1200        -   old 12s";
    assert_eq!(screen[..6].join("\n"), want[1..], "\n{}", screen.join("\n"));
    // With colours every value of a stale row is grey.
    let cells = buffer(&watch, COLORED);
    for x in (2..80).filter(|x| cells[(*x, 4)].symbol() != " ") {
        assert_eq!(cells[(x, 4)].fg, Color::DarkGray, "column {x}");
    }
}

#[test]
fn the_chosen_instrument_in_80_columns() {
    let watch = full((80, 24));
    let screen = screen(&watch);
    assert!(screen.iter().all(|line| line.chars().count() <= 80));
    assert!(screen[2].starts_with(" 41.20  bid 41.20 x 300  ask 41.21 x 1200"), "{}", screen[2]);
    assert!(screen[3].contains("1m bars: 47, 1 incomplete (I), 1 revised (R)"), "{}", screen[3]);
    let text = screen.join("\n");
    for part in ["█", "▒", "│", "┊", "I", "R", "── 12 missing: lost by the", "14:19"] {
        assert!(text.contains(part), "no {part}");
    }
}

#[test]
fn every_view_in_120_columns_and_in_the_smallest() {
    for size in [(120, 40), (60, 15), (200, 60)] {
        let mut watch = full(size);
        watch.handle(at(0), Input::Reports(reports("open", Reachability::Timeout)));
        for key in [Key::Char('1'), Key::Char('2'), Key::Char('3')] {
            press(&mut watch, &[key]);
            let screen = screen(&watch);
            assert!(screen[0].contains("LIVE") && screen[0].ends_with("UTC"), "{}", screen[0]);
            assert!(screen.last().unwrap().ends_with("q quit"), "{size:?} {key:?}");
            assert!(screen[usize::from(size.1) - 2].contains("TROUBLE"), "{size:?} {key:?}");
        }
    }
    let mut watch = full((120, 40));
    press(&mut watch, &[Key::Char('1')]);
    assert_line(&watch, "SPREAD");
    assert_line(&watch, "MISSING");
}

#[test]
fn columns_that_have_no_room_are_left_out_and_no_digit_is() {
    let mut watch = three((60, 24));
    let wide = "LONGEST_SYMBOL_OF_THEM_A";
    watch.handle(at(0), Input::List(defined(2, wide)));
    watch.handle(at(0), Input::List(quoted(2, 0, (123_456_789, 123_456_790))));
    watch.handle_time(at(300));
    assert_line(&watch, &format!("{wide}       -  1234567.89 1234567.90"));
    assert_line(&watch, "5 columns left out, by symbol");
}

#[test]
fn the_system_says_where_the_road_is_cut() {
    let mut watch = three((80, 24));
    press(&mut watch, &[Key::Char('3')]);
    assert_line(&watch, "no report so far");
    watch.handle(at(0), Input::Reports(reports("closed", Reachability::Ok)));
    let mut later = reports("closed", Reachability::Ok);
    later[0].figures.insert("next_seq".to_owned(), 1_606);
    watch.handle(at(2_000), Input::Reports(later));
    assert_line(&watch, "core        ok              250         1606");
    assert_line(&watch, "shard-A     ok");
    assert_line(&watch, "12 ms");
    let mut cut = reports("open", Reachability::Timeout);
    cut[0].words.insert("exchange".to_owned(), "down".to_owned());
    watch.handle(at(3_000), Input::Reports(cut));
    assert_line(&watch, "╳╳╳ core");
    assert_line(&watch, "core.exchange      open");
    assert_line(&watch, "breaker core.exchange: closed -> open");
    assert_line(&watch, "shard-A     silent");
    assert_line(&watch, "shard-A is away");
    watch.handle(at(3_000), Input::ListAway("broker cannot be reached".to_owned()));
    assert_line(&watch, "NO BROKER: broker cannot be reached; trying again");
}

#[test]
fn a_terminal_that_is_too_small_is_told_what_is_needed() {
    let mut watch = full((59, 24));
    assert_line(&watch, "This terminal has 59x24.");
    assert_line(&watch, "watch needs 60x15.");
    watch.handle(at(0), Input::Size(60, 14));
    assert_line(&watch, "watch needs 60x15.");
    watch.handle(at(0), Input::Size(60, 15));
    assert!(!has_line(&watch, "needs"));
}
