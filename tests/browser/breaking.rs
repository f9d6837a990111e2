//! The buttons of a playground: what they break, and that they ask first.

use crate::market_page::MarketPage;
use crate::support::system::System;

#[test]
fn a_button_of_a_playground_breaks_something_after_a_confirmation() {
    let system = System::start(&["--rate", "500", "--chaos", "off", "--playground"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "PETR4") else { return };
    page.wait_text("feed", "=== 'feed: live'");
    page.browser.click("#tab-breakers");
    assert_eq!(page.browser.eval("document.getElementById('no-playground').hidden"), true);
    let press = |page: &mut MarketPage, label: &str, answer: &str| {
        page.browser.click(&format!("button[aria-label='{label}']"));
        page.browser.wait("document.getElementById('confirm').open");
        page.browser.screenshot("confirm");
        page.browser.click(&format!("#confirm [data-part={answer}]"));
        page.browser.wait("!document.getElementById('confirm').open");
    };
    press(&mut page, "Force core.exchange open", "no");
    // A question is asked and answered meanwhile, so an order would have been too.
    page.browser.eval("fetch('/v1/status').then((answer) => answer.text())");
    assert_eq!(page.browser.eval("document.getElementById('feed').textContent"), "feed: live");
    press(&mut page, "Force core.exchange open", "yes");
    page.wait_text("feed", "=== 'feed: stale'");
    page.wait_event("Force core.exchange open: done");
    page.browser.screenshot("playground");
    press(&mut page, "Reset core.exchange", "yes");
    page.wait_text("feed", "=== 'feed: live'");
    page.check(&[]);
}
