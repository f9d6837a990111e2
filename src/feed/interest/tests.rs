use proptest::prelude::*;

use super::*;
use crate::wire::{Definition, Kind, Quote, Trade, U32};

/// Steps without a bound.
fn all() -> Steps {
    Steps::new(usize::MAX)
}

fn symbol(text: &str) -> Symbol {
    text.parse().unwrap()
}

fn names(text: &str) -> Names {
    Names::of(symbol(text))
}

fn pattern(text: &str, kinds: u16) -> Pattern {
    Pattern::new(text, kinds).unwrap()
}

fn join(interests: &mut Interests, patterns: Vec<Pattern>) -> InterestId {
    let id = interests.join(patterns, &mut all());
    assert!(interests.resolve(id, &mut all()));
    id
}

#[test]
fn patterns_are_shared_and_follow_new_definitions() {
    let mut interests = Interests::default();
    let trades_of_petr = || vec![pattern("PETR*", Kind::Trade.mask())];
    let first = join(&mut interests, trades_of_petr());
    assert_eq!(join(&mut interests, trades_of_petr()), first);

    interests.note_definition(InstrumentIndex::new(5), &names("PETR4"), None);
    assert!(!interests.is_settled(), "nobody may be served before interests have decided");
    interests.settle(&mut all());
    let interest = interests.get(first).unwrap();
    let instrument = U32::new(5);
    let definition = Definition::new(U32::new(5).into(), symbol("PETR4"), 2);
    assert!(interest.wants(&Frame::seal(Trade { instrument, ..Trade::default() })));
    assert!(interest.wants(&Frame::seal(definition)));
    assert!(!interest.wants(&Frame::seal(Quote { instrument, ..Quote::default() })));
    assert!(!interest.wants(&Frame::seal(Trade::default())), "another instrument");
    assert_eq!(interest.matched(), 1);

    interests.leave(first);
    interests.settle(&mut all());
    assert!(interests.get(first).is_some(), "one reader is left");
    interests.leave(first);
    interests.settle(&mut all());
    assert!(interests.get(first).is_none());
    assert_eq!(interests.bytes(), 0);
}

#[test]
fn who_comes_back_before_it_is_taken_out_finds_its_interest() {
    let mut interests = Interests::default();
    interests.note_definition(InstrumentIndex::new(0), &names("A"), None);
    let first = join(&mut interests, vec![pattern("A", 0), pattern("B", 0)]);
    interests.leave(first);
    assert_eq!(join(&mut interests, vec![pattern("B", 0), pattern("A", 0)]), first);
    interests.settle(&mut all());
    assert_eq!(interests.get(first).unwrap().matched(), 1);
    // One that is taken out in part is not shared any more.
    interests.leave(first);
    interests.settle(&mut Steps::new(3));
    assert!(interests.get(first).is_some() && interests.has_work());
    let second = join(&mut interests, vec![pattern("A", 0), pattern("B", 0)]);
    assert_ne!(second, first);
    interests.settle(&mut all());
    interests.note_definition(InstrumentIndex::new(1), &names("B"), None);
    interests.settle(&mut all());
    assert_eq!(interests.get(second).unwrap().matched(), 2);
}

/// The work of one subscriber with the longest list does not grow with the instruments that it does not want,
/// nor that of a definition with the patterns that do not match it.
#[test]
fn what_nobody_wants_takes_no_steps() {
    let mut interests = Interests::default();
    for number in 0..20_000 {
        let name = names(&format!("X{number:05}"));
        interests.note_definition(InstrumentIndex::new(number), &name, None);
    }
    let list = |number: usize| (0..1024).map(move |it| pattern(&format!("W{number}-{it:04}"), 0));
    let mut steps = all();
    for number in 0..50 {
        let id = interests.join(list(number).collect(), &mut steps);
        assert!(interests.resolve(id, &mut steps));
    }
    let taken = steps.taken();
    assert!(taken < 50 * 1024 * 3, "{taken} steps for 50 lists of 1,024 patterns");
    let mut steps = all();
    for number in 20_000..21_000 {
        let name = names(&format!("X{number:05}"));
        interests.note_definition(InstrumentIndex::new(number), &name, None);
    }
    interests.settle(&mut steps);
    let taken = steps.taken();
    assert!(taken <= 2 * 1_000, "{taken} steps for 1,000 definitions");
}

#[test]
fn an_interest_holds_no_more_than_its_bound() {
    let mut interests = Interests::default();
    let last = u32::try_from(crate::limits::INSTRUMENTS_MAX - 1).unwrap();
    interests.note_definition(InstrumentIndex::new(last), &names("A9"), None);
    interests.note_definition(InstrumentIndex::new(0), &names("A0"), None);
    let patterns = (0..1024).map(|it| pattern(&format!("A{it}*"), 1 << (it % 16)));
    let id = join(&mut interests, patterns.collect());
    assert_eq!(interests.get(id).unwrap().matched(), 2);
    let bound = 1024 * Interests::BYTES_PER_PATTERN
        + 2 * size_of::<u16>() * crate::limits::INSTRUMENTS_MAX
        + size_of::<Interest>();
    assert!(interests.bytes() <= bound, "{} bytes", interests.bytes());
}

/// Two venues with one symbol, and an instrument without a venue that is called the same.
#[test]
fn either_name_finds_each_instrument_once() {
    let at_venue = |text: &str| Names::at_venue(symbol(text));
    let define = [(0, at_venue("xnas:AMZN")), (1, at_venue("arcx:AMZN")), (2, names("AMZN"))];
    let define = define.into_iter().chain([(3, at_venue("xnas:QQQ")), (4, names("xnas:ZZ"))]);
    let asked = [
        (&["AMZN"][..], &[0, 1, 2][..]),
        (&["AM*"], &[0, 1, 2]),
        (&["xnas:AMZN"], &[0]),
        (&["xnas:*"], &[0, 3, 4]),
        (&["xnas*"], &[0, 3, 4]),
        (&["x*", "AMZN", "xnas:AMZN", "Q*"], &[0, 1, 2, 3, 4]),
        (&["*"], &[0, 1, 2, 3, 4]),
        (&["ZZ"], &[]),
        (&["$*"], &[]),
    ];
    // Patterns look names up, and names look patterns up.
    for asks_first in [true, false] {
        let mut interests = Interests::default();
        let mut ids = Vec::new();
        let mut join_all = |interests: &mut Interests| {
            let list = |texts: &[&str]| texts.iter().map(|text| pattern(text, 0)).collect();
            ids.extend(asked.iter().map(|(texts, _)| join(interests, list(texts))));
        };
        if asks_first {
            join_all(&mut interests);
        }
        for (index, names) in define.clone() {
            interests.note_definition(InstrumentIndex::new(index), &names, None);
        }
        interests.settle(&mut all());
        if !asks_first {
            join_all(&mut interests);
        }
        let found = |interests: &Interests, id| {
            let interest = interests.get(id).unwrap();
            let found = (0..5).filter(|it| interest.kinds_of(InstrumentIndex::new(*it)) != 0);
            let found: Vec<u32> = found.collect();
            assert_eq!(interest.matched(), found.len(), "each counts once");
            found
        };
        for (id, (texts, want)) in ids.iter().zip(asked) {
            assert_eq!(found(&interests, *id), want, "{texts:?}");
        }
        // It has another venue now, and then its definition is void.
        let (before, after) = (at_venue("xnas:AMZN"), at_venue("xcme:AMZN"));
        interests.note_definition(InstrumentIndex::new(0), &after, Some(before));
        interests.settle(&mut all());
        let of = |interests: &Interests, place: usize| found(interests, ids[place]);
        assert_eq!(of(&interests, 0), [0, 1, 2]);
        assert_eq!((of(&interests, 2), of(&interests, 4)), (vec![], vec![3, 4]));
        interests.note_void_definition(InstrumentIndex::new(0), &after);
        interests.settle(&mut all());
        assert_eq!((of(&interests, 0), of(&interests, 1)), (vec![1, 2], vec![1, 2]));
        let late = join(&mut interests, vec![pattern("AMZN", 0)]);
        assert_eq!(found(&interests, late), [1, 2], "no name of it is left");
    }
}

#[derive(Clone, Debug)]
enum Event {
    Define(u32, Names),
    Join(Vec<(String, u16)>),
    Leave(usize),
    /// So many steps are there.
    Work(usize),
}

fn name() -> impl Strategy<Value = String> {
    // Few letters, so that names are each other's neighbours and beginnings.
    "[$AB][AB!]{0,4}".prop_filter("a symbol", |text| text.parse::<Symbol>().is_ok())
}

/// With or without a venue.
fn whole() -> impl Strategy<Value = String> {
    (prop::option::of("[AB]{1,2}"), name()).prop_map(|(venue, name)| match venue {
        Some(venue) => format!("{venue}:{name}"),
        None => name,
    })
}

fn event() -> impl Strategy<Value = Event> {
    let stem = "([AB]{1,2}:)?[$AB]?[AB!]{0,4}".prop_map(|stem| format!("{stem}*"));
    let named = (whole(), any::<bool>()).prop_map(|(text, is_at_venue)| match is_at_venue {
        true => Names::at_venue(symbol(&text)),
        false => names(&text),
    });
    let text = prop_oneof![whole(), stem];
    let kinds = prop_oneof![Just(0), 1_u16..16];
    prop_oneof![
        4 => (0_u32..12, named).prop_map(|(index, name)| Event::Define(index, name)),
        3 => prop::collection::vec((text, kinds), 1..6).prop_map(Event::Join),
        1 => (0_usize..8).prop_map(Event::Leave),
        6 => (1_usize..12).prop_map(Event::Work),
    ]
}

/// The matcher that looks at everything.
fn linear(patterns: &[Pattern], names: &Names) -> u16 {
    let wanted = patterns.iter().filter(|pattern| pattern.means(names));
    wanted.fold(0, |kinds, pattern| kinds | pattern.kinds())
}

proptest! {
    /// Whatever comes, goes and is renamed, in whichever pieces: interests are what a look at every pattern
    /// would find, and nothing is left when all have gone.
    #[test]
    fn the_index_finds_what_a_linear_look_finds(events in prop::collection::vec(event(), 1..80)) {
        let mut interests = Interests::default();
        let mut named = BTreeMap::new();
        let mut readers: Vec<(InterestId, Vec<Pattern>)> = Vec::new();
        for event in events {
            match event {
                Event::Define(index, name) => {
                    let before = named.insert(index, name);
                    if before != Some(name) {
                        interests.note_definition(InstrumentIndex::new(index), &name, before);
                    }
                }
                Event::Join(patterns) => {
                    let patterns: Vec<Pattern> =
                        patterns.iter().map(|(text, kinds)| pattern(text, *kinds)).collect();
                    let id = interests.join(patterns.clone(), &mut all());
                    readers.push((id, patterns));
                }
                Event::Leave(place) if !readers.is_empty() => {
                    let (id, _) = readers.remove(place % readers.len());
                    interests.leave(id);
                }
                Event::Leave(_) => {}
                Event::Work(steps) => {
                    let mut steps = Steps::new(steps);
                    interests.settle(&mut steps);
                    for (id, _) in &readers {
                        interests.resolve(*id, &mut steps);
                    }
                }
            }
        }
        interests.settle(&mut all());
        for (id, patterns) in &readers {
            prop_assert!(interests.resolve(*id, &mut all()));
            let interest = interests.get(*id).unwrap();
            for (index, name) in &named {
                let kinds = interest.kinds_of(InstrumentIndex::new(*index));
                prop_assert_eq!(kinds, linear(patterns, name), "{:?} of {:?}", name, patterns);
            }
            let matched = named.values().filter(|name| linear(patterns, name) != 0).count();
            prop_assert_eq!(interest.matched(), matched);
        }
        for (id, _) in readers {
            interests.leave(id);
        }
        interests.settle(&mut all());
        prop_assert!(interests.index.is_empty() && interests.table.is_empty());
        prop_assert!(interests.shared.is_empty() && interests.bytes() == 0);
    }
}
