//! The watch list: order, filter, what is asked about its day, what is stale.

use super::*;

fn names(watch: &Watch) -> Vec<&str> {
    watch.list.visible(100).iter().map(|it| watch.list.shown(*it)).collect()
}

fn answered(bars: Vec<(InstrumentId, Bar)>, missing: Vec<String>) -> Input {
    Input::Days(Ok(Days { bars, missing }), std::time::Duration::ZERO)
}

fn selected(watch: &Watch) -> &str {
    watch.list.shown(watch.list.selected().unwrap())
}

/// PETR4 has fallen by two percent today and WDOQ26 has risen by one; VALE3 has not traded.
fn with_days(watch: &mut Watch) {
    let days = [(1, 42_04, 300), (3, 541_040, 700)].map(|(index, open, volume)| {
        let first = Trade { qty: U64::new(volume), ..trade(index, 1, 0, open) };
        (number(index), bar(86_400, &[first]))
    });
    watch.handle(at(5), answered(days.to_vec(), Vec::new()));
}

#[test]
fn rows_are_sorted_by_what_is_wanted_and_the_selected_one_stays_so() {
    let mut watch = three((80, 24));
    with_days(&mut watch);
    assert_eq!(names(&watch), ["PETR4", "VALE3", "WDOQ26"]);
    press(&mut watch, &[Key::Down]);
    assert_eq!(selected(&watch), "VALE3");
    for (by, order) in [
        ("last", ["WDOQ26", "PETR4", "VALE3"]),
        ("change", ["WDOQ26", "PETR4", "VALE3"]),
        ("volume", ["WDOQ26", "PETR4", "VALE3"]),
    ] {
        press(&mut watch, &[Key::Char('s')]);
        assert_eq!((watch.list.sort.name(), names(&watch).as_slice()), (by, &order[..]));
        assert_eq!(selected(&watch), "VALE3");
    }
    press(&mut watch, &[Key::Char('r')]);
    assert_eq!(names(&watch), ["PETR4", "WDOQ26", "VALE3"], "what is not known stays last");
    press(&mut watch, &[Key::Char('s'), Key::Char('s'), Key::Char('r')]);
    assert_eq!(names(&watch), ["WDOQ26", "VALE3", "PETR4"]);
}

#[test]
fn the_first_row_is_selected_until_somebody_selects_another() {
    let mut watch = three((80, 24));
    let comes = |watch: &mut Watch, index, symbol, ms| {
        watch.handle(at(ms), Input::List(defined(index, symbol)));
        watch.handle(at(ms), Input::List(quoted(index, ms, (10, 11))));
        watch.handle_time(at(ms));
    };
    comes(&mut watch, 4, "ABEV3", 500);
    assert_eq!(selected(&watch), "ABEV3");
    press(&mut watch, &[Key::Enter, Key::Escape]);
    comes(&mut watch, 5, "AAAA3", 1_000);
    assert_eq!((names(&watch)[0], selected(&watch)), ("AAAA3", "ABEV3"));
}

#[test]
fn a_filter_finds_a_part_of_a_name() {
    let mut watch = three((80, 24));
    press(&mut watch, &[Key::End, Key::Char('/'), Key::Char('e'), Key::Char('x')]);
    assert_eq!(names(&watch), [] as [&str; 0]);
    assert_line(&watch, "no instrument has ex in its name");
    press(&mut watch, &[Key::Backspace]);
    assert_eq!(names(&watch), ["PETR4", "VALE3"]);
    assert_eq!(selected(&watch), "PETR4", "the selected one is gone");
    press(&mut watch, &[Key::Enter]);
    assert_line(&watch, "2 of 3 match e");
    for _ in 0..200 {
        press(&mut watch, &[Key::Char('/'), Key::Char('E')]);
    }
    assert!(watch.typed.as_ref().unwrap().len() <= 24);
}

#[test]
fn keys_that_come_at_once_act_one_after_the_other() {
    let mut watch = three((80, 24));
    let letters = "/WDO".chars().map(Key::Char);
    for key in letters.chain([Key::Enter, Key::Enter]) {
        watch.handle(at(1), Input::Key(key));
    }
    let symbol = watch.chosen.as_ref().map(|it| it.symbol.to_string());
    assert_eq!(symbol.as_deref(), Some("WDOQ26"));
}

#[test]
fn the_selected_row_is_always_on_the_screen() {
    let mut watch = Watch::new(at(0), (80, 15), 60);
    for index in 1..=100 {
        watch.handle(at(0), Input::List(defined(index, &format!("S{index:03}"))));
        watch.handle(at(0), Input::List(quoted(index, 0, (10, 11))));
    }
    watch.handle(at(0), Input::List(live(1_000)));
    watch.handle_time(at(1_000));
    let keys = [Key::Down, Key::PageDown, Key::Up, Key::End, Key::PageUp, Key::Home, Key::Up];
    for (key, want) in
        keys.into_iter().zip(["S002", "S012", "S011", "S100", "S090", "S001", "S001"])
    {
        press(&mut watch, &[key]);
        assert_eq!(selected(&watch), want, "{key:?}");
        assert_line(&watch, &format!("▸ {want}"));
    }
    press(&mut watch, &[Key::End]);
    watch.handle(at(0), Input::Size(80, 40));
    watch.handle_time(at(1_000));
    assert_line(&watch, "▸ S100");
    assert_line(&watch, "  S066");
}

#[test]
fn the_day_is_asked_for_again_and_less_often_where_that_takes_long() {
    let mut watch = three((80, 24));
    let asked = commands(&mut watch);
    let symbols = ["PETR4", "VALE3", "WDOQ26"].map(|it| it.parse().unwrap()).to_vec();
    let from = OPENING - OPENING % (86_400 * SECOND);
    assert_eq!(asked, [Command::AskDays { symbols, from }]);
    watch.handle_time(at(60_000));
    assert_eq!(commands(&mut watch), [], "one question at a time");
    let took = std::time::Duration::from_millis(500);
    watch.handle(at(60_000), Input::Days(Ok(Days::default()), took));
    watch.handle_time(at(64_999));
    assert_eq!(commands(&mut watch), []);
    watch.handle_time(at(65_000));
    assert_eq!(commands(&mut watch).len(), 1);
}

#[test]
fn of_many_instruments_those_on_the_screen_are_asked_for() {
    let mut watch = Watch::new(at(0), (80, 24), 60);
    for index in 1..=300 {
        watch.handle(at(0), Input::List(defined(index, &format!("S{index:03}"))));
        watch.handle(at(0), Input::List(quoted(index, 0, (10, 11))));
    }
    watch.handle(at(500), Input::List(live(1_000)));
    watch.handle_time(at(500));
    let [Command::AskDays { symbols, .. }] = &commands(&mut watch)[..] else {
        panic!("no question")
    };
    assert_eq!(symbols.len(), 19);
    press(&mut watch, &[Key::Char('s'), Key::Char('s')]);
    assert_line(&watch, "by change (known of 0)");
}

#[test]
fn a_part_that_is_missing_makes_its_volumes_old_and_not_gone() {
    let mut watch = three((80, 24));
    with_days(&mut watch);
    assert_line(&watch, "      300      0.0s");
    let missing = vec!["shard-C (timeout)".to_owned()];
    let first = trade(3, 1, 0, 541_040);
    let days = vec![(number(3), bar(86_400, &[first]))];
    watch.handle(at(9), answered(days, missing));
    assert_line(&watch, "change and volume are partial without shard-C (timeout)");
    assert_line(&watch, "     300?      0.0s");
    assert!(!has_line(&watch, "100?"), "that one was answered");
    watch.handle(at(9), Input::Days(Err("the aggregator is away".to_owned()), Default::default()));
    assert_line(&watch, "no change and volume: the aggregator is away; asking again");
    assert_line(&watch, "100?");
}

#[test]
fn quotes_of_one_exchange_are_stale_and_the_others_are_not() {
    let mut watch = three((80, 24));
    let exchange = crate::wire::ExchangeNumber::new(3).unwrap();
    let flags = U16::new(exchange.flags());
    let frame =
        Quote { flags, instrument: U32::new(2), ts_recv: U64::new(OPENING), ..Quote::default() };
    watch.handle(at(0), Input::List(Event::Data(Frame::seal(frame))));
    let status = crate::wire::FeedStatus::Stale;
    watch.handle(at(5_000), Input::List(Event::Exchange { exchange, status }));
    watch.handle_time(at(5_000));
    assert_line(&watch, "STALE: exchange 3");
    assert_line(&watch, " ~VALE3");
    assert_line(&watch, "▸ PETR4");
    watch.handle(at(5_000), Input::List(Event::Current));
    assert_line(&watch, "LIVE");
    assert!(!has_line(&watch, "~VALE3"));
}

#[test]
fn a_change_is_of_the_day_of_the_trade() {
    let mut watch = three((80, 24));
    with_days(&mut watch);
    assert_line(&watch, "-2.00");
    let tomorrow = 86_400_000;
    watch.handle(at(tomorrow), Input::List(traded(1, 20, tomorrow, 4_000)));
    assert!(!has_line(&watch, "-4.85"), "yesterday's first trade is no beginning of today");
}
