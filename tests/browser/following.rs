//! The page follows the market, and says what it does not have.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::market_page::{IS_AWAY, MarketPage, cell};
use crate::support::node::Reserved;
use crate::support::process::Process;
use crate::support::system::{System, signal};

/// One whole session of AMZN on Nasdaq; `tests/data/PROVENANCE.md` has the totals.
const AMZN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/amzn-2012-06-21.mbp-1.dbn.zst");
const AMZN_TRADES: u64 = 11_419;

/// Frames that the ring of a gateway holds that is to lose some.
const SMALL_RING: u64 = 1_024;

#[test]
fn the_last_price_of_a_tape_is_shown() {
    let system = System::start(&["--tape", AMZN, "--speed", "max"]);
    let sum = |bars: &Value| -> u64 {
        let bars = bars.as_array().into_iter().flatten();
        bars.map(|bar| bar["trades"].as_u64().unwrap()).sum()
    };
    let is_whole = |report: &Value| sum(&report["bars"]) >= AMZN_TRADES;
    system.wait_report("AMZN", &["--bars", "1m"], is_whole);
    let report = system.wait_report("AMZN", &["--last", "1"], |report| {
        report["history"].as_array().is_some_and(|rows| rows.len() == 1)
    });
    let last = report["history"][0]["price"].as_str().unwrap().to_owned();
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "AMZN") else { return };
    page.wait_text("feed", "=== 'feed: ended'");
    assert_eq!(page.cell("AMZN", "last"), last);
    page.browser.wait(&format!(
        "document.querySelector('#quote [data-part=last]').textContent === {}",
        json!(last)
    ));
    page.browser.wait(&format!(
        "document.querySelector('#trades tr td:nth-child(3)')?.textContent === {}",
        json!(last)
    ));
    page.wait_text("chart-note", "=== ''");
    page.check(&[]);
    page.browser.screenshot("tape");
}

#[test]
fn a_live_price_changes_and_what_is_stale_is_grey_with_its_age() {
    let system = System::start(&["--rate", "2000", "--chaos", "off"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "PETR4") else { return };
    page.wait_text("feed", "=== 'feed: live'");
    let before = page.cell("PETR4", "last");
    page.wait_other("PETR4", "last", &before);
    page.wait_rows("current");
    let color = format!("getComputedStyle({}).color", cell("PETR4", "last"));
    let live = page.browser.wait(&color);
    // Without --playground nothing can be broken from here.
    page.browser.wait("document.querySelectorAll('#breakers tr').length");
    let buttons = "document.querySelectorAll('#breakers button, #nodes button').length";
    assert_eq!(page.browser.eval(buttons), 0);
    assert_eq!(page.browser.eval("document.getElementById('no-playground').hidden"), false);

    system.place.run("breaker", &["core.exchange", "force-open"]).expect(0);
    page.wait_text("feed", "=== 'feed: stale'");
    page.wait_rows("stale");
    let grey = page.browser.eval("getComputedStyle(document.querySelector('.muted')).color");
    assert_ne!(live, grey);
    page.browser.wait(&format!("{color} === {grey}"));
    let age = cell("PETR4", "age");
    page.browser.wait(&format!("/^stale \\d+(\\.\\d+)? s$/.test({age}.textContent)"));
    assert_eq!(page.browser.eval("document.getElementById('stale').hidden"), false);
    page.wait_event("Breaker core.exchange: closed to forced-open");
    page.browser.screenshot("stale");

    system.place.run("breaker", &["core.exchange", "reset"]).expect(0);
    page.wait_text("feed", "=== 'feed: live'");
    page.wait_rows("current");
    page.browser.wait("document.getElementById('stale').hidden");
    let before = page.cell("PETR4", "last");
    page.wait_other("PETR4", "last", &before);
    page.check(&[]);

    // What the checks of complaints and of the policy would see.
    page.browser.eval("document.body.setAttribute('style', 'color: red')");
    page.browser.eval("console.error('seen')");
    assert_eq!(
        page.browser.wait("violations.length > 0 && violations")[0],
        "style-src-attr inline"
    );
    let complaints = page.browser.complaints(&[]).join("\n");
    let both = ["Content Security Policy", "seen"];
    assert!(both.iter().all(|text| complaints.contains(text)), "{complaints}");
}

#[test]
fn a_partial_answer_names_the_shard_that_is_missing() {
    let system = System::start(&["--rate", "500", "--chaos", "off"]);
    system.wait_well();
    let owner = system.wait_owner("PETR4");
    let gateway = system.place.address("gateway");
    signal(system.pid(&owner), Signal::STOP);
    let Some(mut page) = MarketPage::open(gateway, "PETR4") else { return };
    // Core has the current quote, so an answer about trades is partial. Bars have no other part.
    page.wait_text("tape-note", &format!(".startsWith('Partial: {owner} ')"));
    page.wait_text("chart-note", &format!(".includes('{owner}')"));
    page.browser.screenshot("partial");
    signal(system.pid(&owner), Signal::CONT);
    // Its breaker may be open for a while: it is asked again until it answers.
    let chosen = "document.querySelector('#intervals [aria-checked=true]').textContent";
    system.retry("bars of a shard that is back", || {
        for (button, name) in [(2, "5s"), (3, "1m")] {
            page.browser.click(&format!("#intervals button:nth-child({button})"));
            page.browser.wait(&format!("{chosen} === '{name}'"));
        }
        let note = page.browser.eval("document.getElementById('chart-note').textContent");
        let text = note.as_str().unwrap();
        if text.is_empty() { Ok(()) } else { Err(text.to_owned()) }
    });
    page.check(&["status of 503", "status of 504"]);
}

#[test]
fn the_page_outlives_broker_and_gateway() {
    let system = System::start(&["--rate", "500", "--chaos", "off"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "PETR4") else { return };
    page.wait_text("feed", "=== 'feed: live'");
    page.browser.wait("document.querySelectorAll('#trades tr').length > 5");

    // How long each hop takes stands in the drawing.
    page.browser.wait("document.getElementById('road').textContent.includes('since core ≤')");
    // The gateway goes on where the journal does, so nothing is lost.
    system.kill("broker");
    page.wait_event("Breaker core.broker: half-open to closed");
    page.wait_text("feed", "=== 'feed: live'");
    let before = page.cell("PETR4", "last");
    page.wait_other("PETR4", "last", &before);
    assert_eq!(page.gaps(), 0);
    page.check(&[]);

    system.kill("gateway");
    page.wait_event("The connection is lost");
    page.wait_event("The connection is back");
    page.wait_text("link", "=== 'connected'");
    page.wait_text("feed", "=== 'feed: live'");
    assert_eq!(page.browser.eval("document.getElementById('lost').hidden"), true);
    let before = page.cell("PETR4", "last");
    page.wait_other("PETR4", "last", &before);
    // A gateway that has just begun has nobody yet to ask about history.
    page.check(&[&IS_AWAY[..], &["status of 503"]].concat());
}

#[test]
fn what_was_missed_for_good_is_drawn_as_a_gap() {
    let system = System::start(&["--rate", "500", "--chaos", "off"]);
    system.wait_well();
    // A further gateway, which this test ends and starts, and which holds little.
    let reserved = Reserved::on(system.place.host);
    let address = reserved.address();
    let text = fs::read_to_string(system.place.config_file()).unwrap();
    let own = format!("gateway = {}\n", system.place.address("gateway").port());
    assert!(text.contains(&own), "{text}");
    let text = text.replace(&own, &format!("gateway = {}\n", address.port()));
    let file = system.place.config_file().with_file_name("further.toml");
    fs::write(&file, format!("{text}\n[gateway]\nring_frames = {SMALL_RING}\n")).unwrap();
    let (file, host) = (file.display().to_string(), system.place.host.to_string());
    let start = || {
        let process = Process::start(&["gateway", "--config", &file, "--host", &host]);
        process.wait_listening();
        process
    };
    let mut gateway = start();
    let Some(mut page) = MarketPage::open(address, "PETR4") else { return };
    page.wait_text("feed", "=== 'feed: live'");
    page.browser.wait("document.querySelectorAll('#trades tr').length > 5");
    assert_eq!(page.gaps(), 0);

    gateway.kill();
    page.browser.wait("!document.getElementById('lost').hidden");
    page.wait_text("lost-text", ".startsWith('The connection to the gateway is lost')");
    page.wait_rows("stale");
    page.browser.screenshot("lost");
    let next = || system.status()["core"]["figures"]["next_seq"].as_u64().unwrap();
    let goal = next() + 2 * SMALL_RING;
    system.retry("more frames than the gateway holds", || match next() {
        next if next > goal => Ok(()),
        next => Err(format!("{next} of {goal}")),
    });
    let mut gateway = start();
    page.wait_text("link", "=== 'connected'");
    page.wait_text("feed", "=== 'feed: live'");
    let before = page.cell("PETR4", "last");
    page.wait_other("PETR4", "last", &before);
    assert_eq!(page.gaps(), 0, "what the gateway has no more comes from core's journal");

    // While core stands still nobody has it.
    gateway.kill();
    page.browser.wait("!document.getElementById('lost').hidden");
    let goal = next() + 2 * SMALL_RING;
    system.retry("more frames than the gateway holds", || match next() {
        next if next > goal => Ok(()),
        next => Err(format!("{next} of {goal}")),
    });
    let core = system.pid("core");
    signal(core, Signal::STOP);
    let gateway = start();
    page.browser.wait("document.querySelectorAll('#trades tr.gap').length");
    page.browser.wait("document.querySelectorAll('#events li[data-tone=gap]').length");
    let text = page.browser.eval("document.querySelector('#trades tr.gap').textContent");
    let text = text.as_str().unwrap().to_owned();
    assert!(text.contains(|it: char| it.is_ascii_digit()), "it says how many: {text}");
    signal(core, Signal::CONT);
    page.wait_text("feed", "=== 'feed: live'");
    let before = page.cell("PETR4", "last");
    page.wait_other("PETR4", "last", &before);
    page.browser.screenshot("gap");
    page.check(&[&IS_AWAY[..], &["status of 503"]].concat());
    drop(gateway);
}
