//! The page by keyboard alone, and what a screen reader is told of it.

use serde_json::{Value, json};

use crate::market_page::MarketPage;
use crate::support::process::{Deadline, PATIENCE};
use crate::support::system::System;

/// The rows of the watch list that are seen: symbols and last prices.
const ROWS: &str = "[...document.querySelectorAll('#rows .row:not([hidden])')]\
     .map((row) => [row.querySelector('.c-symbol').textContent, row.querySelector('.c-last').textContent])";

fn press(page: &mut MarketPage, key: &str) {
    let text = if key == "Enter" { "\r" } else { "" };
    for kind in ["keyDown", "keyUp"] {
        let event = json!({"type": kind, "key": key, "text": text});
        page.browser.call("Input.dispatchKeyEvent", event);
    }
}

fn legend(page: &mut MarketPage) -> String {
    let text = page.browser.eval("document.getElementById('legend').textContent");
    text.as_str().unwrap_or_default().to_owned()
}

#[test]
fn whoever_has_no_mouse_filters_sorts_chooses_and_reads_the_chart() {
    let system = System::start(&["--rate", "500", "--chaos", "off"]);
    system.wait_well();
    let Some(mut page) = MarketPage::open(system.place.address("gateway"), "PETR4") else { return };
    page.wait_text("feed", "=== 'feed: live'");

    press(&mut page, "/");
    page.browser.wait("document.activeElement.matches('input')");
    page.browser.call("Input.insertText", json!({"text": "vale"}));
    page.browser.wait(&format!("{ROWS}.every(([symbol]) => symbol === 'VALE3') && {ROWS}.length"));
    press(&mut page, "Enter");
    page.wait_text("quote-symbol", "=== 'VALE3'");
    press(&mut page, "/");
    press(&mut page, "Escape");
    page.browser.wait(&format!("{ROWS}.length > 5"));

    page.browser.eval("document.querySelector('[role=columnheader].c-last button').focus()");
    press(&mut page, "Enter");
    page.browser
        .wait("document.querySelector('[role=columnheader].c-last').ariaSort === 'descending'");
    let falls = "((all) => all.every((it, at) => at === 0 || all[at - 1] >= it))";
    page.browser.wait(&format!("{falls}({ROWS}.map(([, last]) => Number(last)))"));

    page.browser.click("#intervals > :first-child");
    page.wait_text("legend", ".includes('forming')");
    page.browser.eval("document.getElementById('chart').focus()");
    let deadline = Deadline::after(PATIENCE);
    while legend(&mut page).contains("forming") {
        assert!(!deadline.is_over(), "the crosshair does not move");
        press(&mut page, "ArrowLeft");
        page.browser
            .eval("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))");
    }
    let spoken = "[...document.querySelectorAll('[aria-live]')].some((it) => it.textContent.includes('trade'))";
    page.browser.wait(spoken);
    press(&mut page, "Escape");
    page.wait_text("legend", ".includes('forming')");
    page.check(&[]);

    let tree = page.browser.call("Accessibility.getFullAXTree", json!({}));
    let named = |role: &str| -> Vec<String> {
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let nodes = nodes
            .filter(|it| it["ignored"] != true && (role.is_empty() || it["role"]["value"] == role));
        nodes.filter_map(|it| it["name"]["value"].as_str()).map(str::to_owned).collect()
    };
    assert!(
        named("").iter().any(|it| it.starts_with("Candles of VALE3, 1s")),
        "the chart has a name"
    );
    assert!(named("columnheader").len() >= 5, "{:?}", named("columnheader"));
    assert!(named("row").iter().any(|it| it.contains("VALE3")), "{:?}", named("row"));
    assert!(named("button").iter().all(|it| !it.is_empty()), "a button without a name");
    let regions: Value =
        page.browser.eval("document.querySelectorAll('[aria-labelledby], [aria-label]').length");
    assert!(regions.as_u64() > Some(5), "{regions}");
}
