use std::time::Duration;

use super::*;

/// A configuration that is read and checked.
fn config(text: &str) -> Config {
    let config = Config::from_toml(text, "p.toml").unwrap();
    config.validate().unwrap();
    config
}

fn refusal(text: &str) -> String {
    match Config::from_toml(text, "p.toml").and_then(|config| config.validate()) {
        Ok(()) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

/// One entry of each name.
fn entries(names: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let entry = |name| format!("[[exchange]]\nname = \"{name}\"\n");
    names.into_iter().map(entry).collect()
}

#[test]
fn without_a_list_there_is_the_one_exchange_of_the_section_external() {
    for text in ["", "exchange = []\n"] {
        let text = format!("{text}[external]\ntapes = [\"a\"]\nseed = 7\n");
        let config = config(&text);
        let [one] = &config.exchanges()[..] else { panic!("{:?}", config.exchanges()) };
        assert_eq!(
            (one.name, one.node(), one.run),
            (ExchangeName::nameless(), NodeId::External, true)
        );
        assert_eq!((&one.played, &one.breaker), (&config.external, &config.breaker));
        assert_eq!(one.name.to_string(), "exchange");
    }
}

#[test]
fn every_key_of_an_entry_reaches_its_field() {
    let text = r#"
        [[exchange]]
        name = "xnas"
        address = "127.0.0.3:5"
        breaker = { failure_rate_threshold = 40.0 }
        tapes = ["a", "b"]
        align = "start"
        allow_torn = true
        speed = "max"
        loop = true
        seed = 9
        chaos = "refuse=0.1,stall=0.3"
        [[exchange]]
        name = "X-_9"
        rate = 5
        [[exchange]]
        name = "exchange"
        run = false
        address = 7
    "#;
    let config = config(text);
    let [xnas, other, nameless] = &config.exchanges()[..] else { panic!() };
    let played = &xnas.played;
    assert_eq!(played.tapes, [PathBuf::from("a"), PathBuf::from("b")]);
    assert_eq!((played.align, played.speed), (Align::Start, Speed::Max));
    assert!(played.allow_torn && played.looped && xnas.run);
    assert_eq!((played.seed, played.chaos.as_str()), (9, "refuse=0.1,stall=0.3"));
    assert!((xnas.breaker.failure_rate_threshold - 40.0).abs() < f64::EPSILON);
    assert_eq!(
        (xnas.node().to_string().as_str(), other.name.to_string().as_str()),
        ("xnas", "X-_9")
    );
    assert_eq!((other.played.rate, other.played.seed), (Some(5), 2));
    assert_eq!((nameless.run, nameless.node()), (false, NodeId::External));
    let own: Vec<String> = config.own_exchanges().iter().map(|it| it.name.to_string()).collect();
    assert_eq!(own, ["xnas", "X-_9"]);
}

#[test]
fn an_entry_takes_over_what_it_leaves_out_but_no_tapes_and_not_the_same_seed() {
    let text = r#"
        [external]
        align = "start"
        allow_torn = true
        speed = "10"
        loop = true
        rate = 7
        seed = 30
        chaos = "off"
        [breaker]
        sliding_window_size = 40
        wait_duration_in_open_state = "2s"
        [[exchange]]
        name = "one"
        [[exchange]]
        name = "two"
        tapes = ["a"]
        loop = false
        [exchange.breaker]
        wait_duration_in_open_state = "3s"
    "#;
    let config = config(text);
    let [one, two] = &config.exchanges()[..] else { panic!() };
    assert_eq!(one.played, config.external);
    assert_eq!(one.breaker, config.breaker);
    let tapes = vec![PathBuf::from("a")];
    let want = External { tapes, looped: false, rate: None, seed: 31, ..config.external.clone() };
    assert_eq!(two.played, want);
    assert_eq!(two.breaker.wait_duration_in_open_state, Duration::from_secs(3));
    assert_eq!(two.breaker.sliding_window_size, 40, "as in [breaker]");
    assert_eq!(config.breaker.wait_duration_in_open_state, Duration::from_secs(2));
}

#[test]
fn a_name_that_is_something_else_already_or_no_name_is_refused() {
    for good in ["x", "XNAS", "b3", "a-b_c", "12345678x".get(1..).unwrap(), "exchange", "req", "-"]
    {
        assert_eq!(good.parse::<ExchangeName>().map(|name| name.to_string()), Ok(good.to_owned()));
    }
    for bad in ["", "ninechars", "a b", "a.b", "a:b", "a=b", "é", "$sys", "a\u{1b}"] {
        let error = bad.parse::<ExchangeName>().unwrap_err();
        assert_eq!(error, ExchangeNameError::Form(bad.to_owned()));
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
    for taken in [
        "broker", "core", "Core", "shard", "shard-A", "shardy", "external", "requests", "replica",
        "pregao", "1",
    ] {
        let error = taken.parse::<ExchangeName>().unwrap_err();
        assert_eq!(error, ExchangeNameError::Taken(taken.to_owned()), "{taken}");
        let message = refusal(&entries([taken]));
        assert!(message.contains("[[exchange]], `name = ") && message.contains(taken), "{message}");
    }
}

#[test]
fn each_wrong_entry_is_refused_in_one_line_that_names_its_key() {
    let base = "[[exchange]]\nname = \"one\"\n[[exchange]]\nname = \"two\"\n";
    for (more, parts) in [
        ("[[exchange]]\naddress = 5", &["missing field `name`"][..]),
        ("nam = \"x\"", &["[[exchange]], `nam = ", "`name`"]),
        ("rate = 0", &["[[exchange]] two rate", "outside 1 to"]),
        ("rate = 5\ntapes = [\"a\"]", &["[[exchange]] two rate", "tapes"]),
        ("speed = \"fast\"", &["[[exchange]]", "speed"]),
        ("chaos = \"refuse=2\"", &["[[exchange]] two chaos"]),
        ("address = 0", &["[[exchange]] two address", "port 0"]),
        ("address = 8082", &["[net] core", "core and two both listen on 127.0.0.1:8082"]),
        ("address = 8080", &["[[exchange]] two address", "two and one both listen on"]),
        ("address = \"0.0.0.0:9001\"", &["[net] shards", "shard-A and two"]),
        (
            "address = \"192.0.2.1:8001\"\nrun = false\nseed = 1",
            &["[[exchange]] two seed", "run = false"],
        ),
        ("address = 5\nrun = false\ntapes = []", &["[[exchange]] two tapes"]),
        ("address = 8000\nrun = false", &["aggregator and two"]),
        ("run = false", &["[[exchange]] two address", "is missing"]),
        (
            "breaker = { failure_rate_threshold = 0.0 }",
            &["[[exchange]] two breaker", "failure_rate_threshold"],
        ),
        ("[exchange.breaker]\nfailure_rate = 1.0", &["`failure_rate = 1.0`", "[exchange.breaker]"]),
        ("[[exchange]]\nname = \"one\"", &["[[exchange]] one name", "give each its own"]),
        ("[[exchange]]\nname = \"ONE\"", &["[[exchange]] ONE name", "one is there before"]),
        ("[external]\ntapes = [\"a\"]", &["[external] tapes", "none of [[exchange]]"]),
        ("[external]\nrate = 0", &["[external] rate"]),
        ("breaker = {}\n[breaker]\nfailure_rate_threshold = 0.0", &["[breaker]: failure_rate"]),
        ("[net]\nexternal = 65500", &["[[exchange]] two address", "beyond the last port"]),
    ] {
        let message = refusal(&format!("{base}{more}\n"));
        for part in parts {
            assert!(message.contains(part), "{more:?} gave: {message}");
        }
        assert!(!message.contains('\n'), "{message:?}");
    }
}

#[test]
fn who_writes_one_exchange_as_a_section_is_told_how_a_list_is_written() {
    let message = refusal("[exchange]\nname = \"xnas\"\n");
    assert!(message.contains("write [[exchange]] above each exchange"), "{message}");
}

#[test]
fn there_are_no_more_exchanges_than_numbers_for_them() {
    let names = |count: usize| (0..count).map(|number| format!("x{number}"));
    let nameless = || ["exchange".to_owned()];
    assert_eq!(config(&entries(nameless().into_iter().chain(names(31)))).exchanges().len(), 32);
    assert_eq!(config(&entries(names(31))).exchanges().len(), 31);
    for text in [entries(names(32)), entries(names(32).chain(nameless()))] {
        let message = refusal(&text);
        assert!(
            message.contains("[[exchange]]: lists 32 with names; list at most 31"),
            "{message}"
        );
    }
}

#[test]
fn the_examples_of_the_manual_are_accepted() {
    const PAGES: [&str; 2] =
        [include_str!("../../manual/configuration.md"), include_str!("../../manual/nodes.md")];
    let examples = PAGES.iter().flat_map(|page| page.split("```toml\n").skip(1));
    let examples: Vec<&str> = examples.filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 3);
    for text in &examples {
        config(text);
    }
    let three = config(examples[1]);
    let own: Vec<String> = three.own_exchanges().iter().map(|it| it.name.to_string()).collect();
    assert_eq!((own, three.exchanges().len()), (vec!["xnas".to_owned(), "xcme".to_owned()], 3));
}

#[test]
fn an_exchange_that_comes_by_itself_says_how_and_nothing_of_what_is_played() {
    let text = "[[exchange]]\nname = \"own\"\nkind = \"producer\"\n[[exchange]]\nname = \"quest\"\n\
                kind = \"lines\"\nmap = \"price=last\"\ntime_unit = \"ms\"\nquantity_decimals = 3\n";
    let config = config(text);
    let [own, quest] = &config.exchanges()[..] else { panic!("{:?}", config.exchanges()) };
    assert_eq!((own.kind, own.run), (ExchangeKind::Producer, false));
    assert_eq!((quest.kind, quest.run), (ExchangeKind::Lines, true));
    assert_eq!(quest.lines.quantity_decimals, 3);
    assert_eq!(quest.lines.options.mapping, "price=last".parse().unwrap());
    let nodes: Vec<String> = config.nodes().iter().map(NodeId::to_string).collect();
    assert_eq!(nodes[..2], ["quest", "broker"]);
    assert_eq!(config.listen(quest.node()).unwrap().port(), crate::limits::LINES_PORT);
    for (kind, more, want) in [
        ("producer", "address = 5\n", "own address: belongs to"),
        ("producer", "run = false\n", "own run: belongs to"),
        ("producer", "rate = 5\n", "own rate: belongs to"),
        ("producer", "map = \"price=last\"\n", "own map: belongs to an exchange of lines"),
        ("played", "quantity_decimals = 3\n", "own quantity_decimals: belongs to"),
        ("lines", "tapes = [\"a\"]\n", "own tapes: belongs to"),
        ("lines", "map = \"cost=last\"\n", "own map"),
        ("lines", "quantity_decimals = 15\n", "own quantity_decimals: is at most 14"),
        ("lines", "time_unit = \"m\"\n", "unknown variant"),
        ("other", "", "unknown variant"),
    ] {
        let said = refusal(&format!("[[exchange]]\nname = \"own\"\nkind = \"{kind}\"\n{more}"));
        assert!(said.contains(want), "{said}");
    }
    let said = refusal("[[exchange]]\nname = \"exchange\"\nkind = \"lines\"\n");
    assert!(said.contains("give it a name of its own"), "{said}");
}
