//! Tapes that are easily read wrongly, from the file to the answer. `tests/data/PROVENANCE.md` says what is right for each; what
//! a reader alone can get wrong, `src/market/tape/cases.rs` holds.

use serde_json::Value;

use super::system::System;

const ESU4: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/esu4-2024-07-01.mbp-1.dbn.zst");
const FLAGS: [&str; 5] = ["--speed", "max", "--chaos", "off", "--tape"];

fn case(name: &str) -> String {
    format!("{}/tests/data/cases/{name}.dbn", env!("CARGO_MANIFEST_DIR"))
}

fn with(more: &[&str]) -> Vec<String> {
    FLAGS.iter().chain(more).map(|&flag| flag.to_owned()).collect()
}

fn start(more: &[&str]) -> System {
    System::start(&with(more).iter().map(String::as_str).collect::<Vec<_>>())
}

/// Waits until history has so many trades of ESU4, and gives its bars.
fn bars(system: &System, length: &str, trades: u64) -> Vec<Value> {
    let sum = |report: &Value| -> u64 {
        let bars = report["bars"].as_array().cloned().unwrap_or_default();
        bars.iter().map(|bar| bar["trades"].as_u64().unwrap_or(0)).sum()
    };
    let report = system.wait_report("ESU4", &["--bars", length], |report| sum(report) >= trades);
    assert_eq!(sum(&report), trades, "{report}");
    report["bars"].as_array().unwrap().clone()
}

/// The same day fetched again and longer goes on where the journal ends. Another tape is refused, and stored behind if
/// that is asked for.
#[test]
fn a_longer_tape_continues_and_another_one_is_refused() {
    let whole = case("first-trade-late");
    let directory = tempfile::tempdir().unwrap();
    let shorter = directory.path().join("shorter.dbn");
    let bytes = std::fs::read(&whole).unwrap();
    // Without the last two of its five trades.
    std::fs::write(&shorter, &bytes[..bytes.len() - 2 * 48]).unwrap();
    let system = start(&[shorter.to_str().unwrap()]);
    bars(&system, "1m", 3);
    let again = |system: System, more: &[&str]| {
        let flags = with(more);
        System::start_at(system.stop(), &flags.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let system = again(system, &[&whole]);
    let volume: u64 =
        bars(&system, "1m", 5).iter().map(|bar| bar["volume"].as_u64().unwrap()).sum();
    assert_eq!(volume, 15);
    let place = system.stop();
    for other in [&["--speed", "max", "--tape", ESU4][..], &["--rate", "10"]] {
        let refused = place.all(other).expect(5);
        let said = refused.stderr.join(" ");
        assert!(said.contains("another feed than the journal holds"), "{said}");
        assert!(said.contains("--append"), "{said}");
    }
    let flags = with(&[ESU4, "--append"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let system = System::start_at(place, &flags);
    bars(&system, "1m", 125);
    // It is the journal's own feed from here on.
    let system = again(system, &[ESU4]);
    bars(&system, "1m", 125);
}

/// The bars of one minute that a subscription from the first frame has told last are those of the report. The last minute
/// of all is over only when a later trade comes, or its time has passed.
fn live_bars_are_those_of(system: &System, symbol: &str, history: &[Value]) {
    let pattern = format!("bar.1m.{symbol}");
    let flags = [&pattern, "--from", "1", "--for", "4s", "--format", "json"];
    let told = system.place.run("subscribe", &flags).expect(0);
    let mut last: Vec<Value> = Vec::new();
    for bar in told.json().into_iter().filter(|line| line["kind"] == "bar") {
        last.retain(|known| known["start"] != bar["start"]);
        last.push(bar);
    }
    last.sort_by_key(|bar| bar["start"].as_u64());
    assert!(last.len() + 1 >= history.len(), "{told:?}");
    for (live, want) in last.iter().zip(history) {
        for key in ["start", "open", "high", "low", "close", "volume", "trades"] {
            assert_eq!(live[key], want[key], "{key} of {live}");
        }
        let flags = live["flags"].as_array().unwrap();
        assert!(flags.iter().all(|flag| flag != "incomplete"), "{live}");
    }
}

#[test]
fn live_bars_of_a_tape_whose_first_trade_is_late_are_those_of_history() {
    let system = start(&[&case("first-trade-late")]);
    let history = bars(&system, "1m", 5);
    live_bars_are_those_of(&system, "ESU4", &history);
}

/// B3 lists trades of the night behind those of the day, with the times that they had.
#[test]
fn a_line_of_the_night_reaches_history_and_live_bars() {
    const HEADER: &str = "DataReferencia;CodigoInstrumento;AcaoAtualizacao;PrecoNegocio;QuantidadeNegociada;\
         HoraFechamento;CodigoIdentificadorNegocio;TipoSessaoPregao;DataNegocio;CodigoParticipanteComprador;\
         CodigoParticipanteVendedor";
    let line = |price: &str, qty: u32, time: &str, id: u32, session: u32, day: &str| {
        format!("2026-07-14;ESU4;0;{price};{qty};{time};{id};{session};{day};3;93\n")
    };
    let lines = [
        line("10,00", 100, "100000000", 10, 1, "2026-07-14"),
        line("11,00", 200, "100030000", 20, 1, "2026-07-14"),
        line("12,00", 300, "100130000", 30, 1, "2026-07-14"),
        line("9,00", 50, "020118304", 40, 6, "2026-07-13"),
        line("8,00", 25, "020130000", 50, 6, "2026-07-13"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("negocios.txt");
    std::fs::write(&file, format!("{HEADER}\n{}", lines.concat())).unwrap();
    let system = start(&[file.to_str().unwrap()]);
    let history = bars(&system, "1m", 5);
    let volumes: Vec<u64> = history.iter().map(|bar| bar["volume"].as_u64().unwrap()).collect();
    assert_eq!(volumes, [75, 300, 300]);
    live_bars_are_those_of(&system, "ESU4", &history);
}

#[test]
fn prices_below_zero_are_prices() {
    let system = start(&[&case("negative-quotes")]);
    let flags = ["*", "--spread", "--deadline", "10s", "--format", "json"];
    system.retry("five quotes", || {
        let figure = system.place.run("report", &flags).json().pop().unwrap_or_default();
        let found = (&figure["quotes"], &figure["crossed"], &figure["locked"]);
        if found == (&5.into(), &1.into(), &1.into()) { Ok(()) } else { Err(figure.to_string()) }
    });
}

/// What is odd about a tape is said by the exchange, and the names that it states can be asked for.
#[test]
fn what_stands_for_a_name_is_said_and_can_be_asked_for() {
    let system = start(&[&case("star-and-long-symbols"), &case("two-venues-one-id")]);
    system.wait_log("external", "\"BAC-I*\" is no symbol here: BAC-I_~2f7d4cbe stands for it");
    system.wait_log("external", "several venues have QQQ: it is shown as VENUE:QQQ");
    let price = |report: &Value| report["history"][0]["price"] == "10.00";
    system.wait_report("BAC-I_~2f7d4cbe", &["--last", "1"], price);
    let best = |report: &Value| {
        (&report["quote"]["bid"], &report["quote"]["ask"]) == (&"10.00".into(), &"10.10".into())
    };
    system.wait_report("XNAS:QQQ", &["--last", "0"], best);
}
