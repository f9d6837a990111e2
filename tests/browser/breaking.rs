//! The buttons of a playground: what they break, and that they ask first.

use crate::market_page::MarketPage;
use crate::support::system::System;

/// Counts the questions about trades that have no answer yet.
const COUNT_QUESTIONS: &str = "window.waiting = 0; const real = fetch; window.fetch = async (url, ...rest) => { \
     if (!String(url).includes('/v1/trades/')) return real(url, ...rest); \
     waiting += 1; try { return await real(url, ...rest); } finally { waiting -= 1; } };";
/// Two frames later what an answer changes is on the page.
const TWO_FRAMES: &str =
    "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(() => go(1))))";

/// Presses a button that asks first, and answers.
fn press(page: &mut MarketPage, label: &str, answer: &str) {
    page.browser.click(&format!("button[aria-label='{label}']"));
    page.browser.wait("document.getElementById('confirm').open");
    page.browser.screenshot("confirm");
    page.browser.click(&format!("#confirm [data-part={answer}]"));
    page.browser.wait("!document.getElementById('confirm').open");
}

#[test]
fn a_button_of_a_playground_breaks_something_after_a_confirmation() {
    let system = System::start(&["--rate", "500", "--chaos", "off", "--playground"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "PETR4") else { return };
    page.wait_text("feed", "=== 'feed: live'");
    page.browser.click("#tab-breakers");
    assert_eq!(page.browser.eval("document.getElementById('no-playground').hidden"), true);
    press(&mut page, "Force core.exchange open", "no");
    // A question is asked and answered meanwhile, so an order would have been too.
    page.browser.eval("fetch('/v1/status').then((answer) => answer.text())");
    assert_eq!(page.browser.eval("document.getElementById('feed').textContent"), "feed: live");
    press(&mut page, "Force core.exchange open", "yes");
    page.wait_text("feed", "=== 'feed: stale'");
    page.wait_event("Force core.exchange open: done");
    page.browser.screenshot("playground");
    // However long an error is, no button is behind the edge.
    let edges = page.browser.eval(
        "[...document.querySelectorAll('#breakers button')].map((it) => it.getBoundingClientRect().right)",
    );
    let edges: Vec<f64> = edges.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
    assert!(!edges.is_empty() && edges.iter().all(|edge| *edge <= 1280.0), "{edges:?}");
    press(&mut page, "Reset core.exchange", "yes");
    page.wait_text("feed", "=== 'feed: live'");
    page.check(&[]);
}

/// Chooses PETR4 anew, so that its trades are asked for; what the page says of the answer.
fn note_of_trades(page: &mut MarketPage) -> String {
    for symbol in ["VALE3", "PETR4"] {
        page.browser.eval(&format!("location.hash = '#{symbol}'"));
        page.wait_text("quote-symbol", &format!("=== '{symbol}'"));
    }
    page.browser.wait("waiting === 0");
    page.browser.eval(TWO_FRAMES);
    let note = page.browser.eval("document.getElementById('tape-note').textContent");
    note.as_str().unwrap().to_owned()
}

#[test]
fn a_shard_killed_from_the_page_is_named_in_a_partial_answer_and_comes_back() {
    let system = System::start(&["--rate", "500", "--chaos", "off", "--playground"]);
    system.wait_well();
    let owner = system.wait_owner("PETR4");
    let first = system.pid(&owner);
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "PETR4") else { return };
    page.browser.eval(COUNT_QUESTIONS);
    page.wait_text("feed", "=== 'feed: live'");
    assert_eq!(note_of_trades(&mut page), "");
    page.browser.click("#tab-nodes");
    // Its supervisor waits longer after each kill, so one of them is seen.
    let label = format!("Kill {owner}");
    system.retry("a partial answer", || {
        press(&mut page, &label, "yes");
        page.wait_event(&format!("{label}: "));
        let note = note_of_trades(&mut page);
        if note.starts_with(&format!("Partial: {owner} ")) { Ok(()) } else { Err(note) }
    });
    page.browser.screenshot("killed");
    page.wait_event(&format!("{label}: done"));
    system.retry("the trades of a shard that is back", || match note_of_trades(&mut page) {
        note if note.is_empty() => Ok(()),
        note => Err(note),
    });
    page.browser.wait(&format!(
        "[...document.querySelectorAll('#nodes tr')].find((row) => row.cells[0].textContent === '{owner}')\
         ?.dataset.state === 'ok'"
    ));
    assert_ne!(system.pid(&owner), first);
    page.check(&["status of 503", "status of 504"]);
}

#[test]
fn an_exchange_misbehaves_from_the_page_until_it_is_told_to_behave() {
    let system = System::start(&["--rate", "500", "--chaos", "off", "--playground"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "PETR4") else { return };
    page.wait_text("feed", "=== 'feed: live'");
    page.browser.wait("document.querySelector('#road svg')");
    let is_drawn = "document.querySelector('#road [data-chaos] .s-wrong') !== null";
    assert_eq!(page.browser.eval(is_drawn), false);
    page.browser.click("#tab-nodes");
    press(&mut page, "Have external misbehave", "yes");
    page.wait_event("Have external misbehave: done");
    page.browser.wait(is_drawn);
    page.wait_text("system-summary", ".includes('external misbehaves on purpose: refuse=')");
    page.wait_event("The feed is stale");
    page.browser.screenshot("chaos");
    // All three buttons are seen whole.
    let edges = page.browser.eval(
        "[...document.querySelectorAll('#nodes button')].map((it) => it.getBoundingClientRect().right)",
    );
    let edges: Vec<f64> = edges.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
    assert!(edges.len() == 6 && edges.iter().all(|edge| *edge <= 1280.0), "{edges:?}");

    press(&mut page, "Have external behave", "yes");
    page.wait_event("Have external behave: done");
    page.browser.wait(&format!("!({is_drawn})"));
    page.wait_text("feed", "=== 'feed: live'");
    page.wait_rows("current");
    let before = page.cell("PETR4", "last");
    page.wait_other("PETR4", "last", &before);
    // Core asks for what was lost and spoiled, so no subscriber lacks anything.
    assert_eq!(page.gaps(), 0);
    page.check(&[]);
}
