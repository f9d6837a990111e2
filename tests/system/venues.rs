//! Two venues have one symbol: the short form means both, the full name one of them, wherever it is asked, and whichever
//! shard the text alone points to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::process::{Finished, Process};
use super::support::web::Web;
use super::system::{Place, System};

/// Five trades of ESU4 at GLBX. `tests/data/PROVENANCE.md` says more.
const TAPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cases/first-trade-late.dbn");
/// Two trades of ESU4 at B3.
const LINES: &str = "DataReferencia;CodigoInstrumento;AcaoAtualizacao;PrecoNegocio;QuantidadeNegociada;HoraFechamento;\
    CodigoIdentificadorNegocio;TipoSessaoPregao;DataNegocio;CodigoParticipanteComprador;CodigoParticipanteVendedor
2026-07-14;ESU4;0;10,00;100;100000000;10;1;2026-07-14;3;93
2026-07-14;ESU4;0;11,00;200;100030000;20;1;2026-07-14;3;93
";

/// With their trades.
const BVMF: (&str, usize) = ("BVMF:ESU4", 2);
const GLBX: (&str, usize) = ("GLBX:ESU4", 5);
const BOTH: [(&str, usize); 2] = [BVMF, GLBX];

/// `BVMF:ESU4` is the first shard's as a text, and the second one's as ESU4 of a venue.
const RANGES: &str = "[partition]\nby = \"range\"\nranges = [\"A-D\", \"E-P\", \"Q-Z\"]\n";

fn start() -> System {
    let directory = tempfile::tempdir().unwrap();
    let lines = directory.path().join("negocios.txt");
    std::fs::write(&lines, LINES).unwrap();
    let place = Arc::new(Place::new());
    place.configure(RANGES);
    let tapes = ["--tape", TAPE, lines.to_str().unwrap()];
    let system =
        System::start_at(place, &[&["--speed", "max", "--chaos", "off"], &tapes[..]].concat());
    // Every node has all of it.
    for (name, trades) in BOTH {
        let has_all = |report: &Value| trades_of(report) == trades;
        system.wait_report(name, &["--last", "9"], has_all);
    }
    system
}

/// The trades of a report, each once and under the name of the report.
fn trades_of(report: &Value) -> usize {
    let rows = report["history"].as_array().cloned().unwrap_or_default();
    assert!(rows.iter().all(|row| row["symbol"] == report["symbol"]), "{report}");
    let numbers: BTreeSet<u64> = rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), rows.len(), "{report}");
    rows.len()
}

/// How many lines there are of each symbol.
fn counted(lines: &[Value]) -> Vec<(&str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        *counts.entry(line["symbol"].as_str().unwrap_or("?")).or_default() += 1;
    }
    counts.into_iter().collect()
}

fn of_kind(lines: Vec<Value>, kind: &str) -> Vec<Value> {
    lines.into_iter().filter(|line| line["kind"] == kind).collect()
}

fn report(system: &System, flags: &[&str]) -> Finished {
    system.place.run("report", &[flags, &["--deadline", "10s"]].concat())
}

#[test]
fn a_path_about_one_instrument_refuses_a_name_of_two() {
    let system = start();
    let gateway = system.place.address("gateway");
    for path in ["trades", "bars"] {
        let both = Web::get(gateway, &format!("/v1/{path}/ESU4?deadline=5s"));
        assert_eq!(both.status, 400, "{}", both.text());
        assert!(BOTH.iter().all(|(name, _)| both.text().contains(name)), "{}", both.text());
        for (name, trades) in BOTH {
            let one = Web::get(gateway, &format!("/v1/{path}/{name}?last=100&deadline=5s"));
            assert_eq!(one.status, 200, "{}", one.text());
            let rows = one.json()[path].as_array().map_or(0, Vec::len);
            assert!(rows > 0 && (path == "bars" || rows == trades), "{name}: {}", one.text());
        }
    }
}

#[test]
fn a_report_by_either_name_is_about_what_the_name_means() {
    let system = start();
    let json = |flags: &[&str]| {
        let finished = report(&system, &[flags, &["--format", "json"]].concat());
        finished.expect(0).json()
    };
    for (asked, want) in [
        (&["ESU4"][..], &BOTH[..]),
        (&["ES*"], &BOTH),
        (&["BVMF:ESU4"], &[BVMF]),
        (&["BVMF*"], &[BVMF]),
        (&["GLBX:ESU4"], &[GLBX]),
        (&["GLBX:*"], &[GLBX]),
        (&["BVMF:ESU4", "ESU4", "B*", "E*"], &BOTH),
    ] {
        let reports = json(&[asked, &["--last", "9"]].concat());
        let found: Vec<(&str, usize)> =
            reports.iter().map(|it| (it["symbol"].as_str().unwrap(), trades_of(it))).collect();
        assert_eq!(found, want, "{asked:?}");
        let bars = json(&[asked, &["--bars", "1d"]].concat());
        let trades = |report: &Value| -> usize {
            let bars = report["bars"].as_array().unwrap();
            bars.iter().map(|bar| usize::try_from(bar["trades"].as_u64().unwrap()).unwrap()).sum()
        };
        let found: Vec<(&str, usize)> =
            bars.iter().map(|it| (it["symbol"].as_str().unwrap(), trades(it))).collect();
        assert_eq!(found, want, "bars of {asked:?}");
        let figure = json(&[asked, &["--average"]].concat()).pop().unwrap();
        assert_eq!(figure["instruments"], want.len(), "{asked:?}: {figure}");
    }
    for unknown in ["BVMF:NONE", "NONE:ESU4", "BVMF", "NONE"] {
        let refused = report(&system, &[unknown]).expect(4);
        let said = refused.stderr.join(" ");
        assert!(said.contains("no such instrument"), "{unknown}: {said}");
    }
    // People read the venue where there is a choice.
    let table = |asked: &str| report(&system, &[asked, "--last", "0"]).expect(0).stdout.join("\n");
    let one = table("GLBX:ESU4");
    assert!(one.starts_with("ESU4  no quote"), "{one}");
    let both = table("ESU4");
    assert!(BOTH.iter().all(|(name, _)| both.contains(&format!("{name}  "))), "{both}");
}

#[test]
fn a_subscription_by_either_name_gets_what_the_name_means() {
    let system = start();
    let told = |pattern: &str, flags: &[&str]| {
        system.place.run("subscribe", &[&[pattern], flags].concat()).expect(0)
    };
    for (asked, want) in [
        ("ESU4", &BOTH[..]),
        ("E*", &BOTH),
        ("BVMF:ESU4", &[BVMF]),
        ("BVMF*", &[BVMF]),
        ("GLBX:*", &[GLBX]),
    ] {
        // Out of history from the first frame on, and what is told of the present: the last trade of each.
        for (is_past, begin) in [(true, &["--from", "1"][..]), (false, &[])] {
            let want = want.iter().map(|(name, trades)| (*name, if is_past { *trades } else { 1 }));
            let want: Vec<(&str, usize)> = want.collect();
            let count = want.iter().map(|(_, trades)| trades).sum::<usize>().to_string();
            let flags = ["--count", &count, "--format", "json", "--for", "60s"];
            let lines = told(&format!("trade.{asked}"), &[begin, &flags].concat()).json();
            assert_eq!(counted(&of_kind(lines, "trade")), want, "{asked} {begin:?}");
        }
    }
    for (asked, want) in [("ESU4", &BOTH[..]), ("BVMF:ESU4", &[BVMF])] {
        let flags = ["--from", "1", "--for", "4s", "--format", "json"];
        let bars = of_kind(told(&format!("bar.1s.{asked}"), &flags).json(), "bar");
        let names = counted(&bars);
        assert!(names.iter().map(|it| it.0).eq(want.iter().map(|it| it.0)), "{asked}: {names:?}");
    }
    let one = told("trade.BVMF:ESU4", &["--count", "1"]).stdout.join("\n");
    assert!(one.contains(" ESU4 ") && !one.contains("BVMF"), "{one}");
    // All names come ahead of a subscription that begins with a frame.
    let both = told("trade.ESU4", &["--from", "1", "--count", "7"]).stdout.join("\n");
    assert!(BOTH.iter().all(|(name, _)| both.contains(name)), "{both}");
    assert!(!both.contains(" ESU4 "), "{both}");
}

#[test]
fn the_files_of_a_log_are_read_by_either_name() {
    let system = start();
    let dir = system.place.data_dir();
    for (asked, want) in
        [("trade.ESU4", &BOTH[..]), ("trade.E*", &BOTH), ("trade.BVMF:ESU4", &[BVMF])]
    {
        // The shard of ESU4 has both of them.
        for log in ["core", "shard-B"] {
            let flags = ["--symbol", asked, "--format", "json", "--log", log];
            let arguments = [&["dump", dir.to_str().unwrap()][..], &flags].concat();
            let trades = Process::start(&arguments).finish().expect(0).json();
            assert_eq!(counted(&trades), want, "{asked} of {log}");
        }
    }
}
