//! The page, as somebody who looks at it reads it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::devtools::{Browser, find};

/// Keeps what the page was forbidden, so that it can be asked for.
const KEEP_VIOLATIONS: &str = "window.violations = []; addEventListener('securitypolicyviolation', \
     (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));";

/// What a browser says of a gateway that is away. Nobody can keep it from saying so.
pub(crate) const IS_AWAY: [&str; 2] = ["net::ERR_", "WebSocket connection to"];

/// The page in a browser.
pub(crate) struct MarketPage {
    pub(crate) browser: Browser,
}

impl MarketPage {
    /// The page of this gateway with an instrument chosen, once it shows rows; or `None` where there is no browser.
    pub(crate) fn open(gateway: SocketAddr, symbol: &str) -> Option<MarketPage> {
        let mut browser = Browser::start(&find()?);
        browser.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": KEEP_VIOLATIONS}));
        browser.show_as((1280, 900), "light");
        browser.open(&format!("http://{gateway}/#{symbol}"));
        let mut page = MarketPage { browser };
        page.browser.wait(&shown("quote-symbol", &format!("=== {}", json!(symbol))));
        Some(page)
    }

    /// A cell of the watch list, once the row is there.
    pub(crate) fn cell(&mut self, symbol: &str, column: &str) -> String {
        let cell = self.browser.wait(&format!("{}?.textContent", cell(symbol, column)));
        cell.as_str().unwrap().to_owned()
    }

    /// Waits until a cell says something else.
    pub(crate) fn wait_other(&mut self, symbol: &str, column: &str, than: &str) {
        let it = cell(symbol, column);
        self.browser.wait(&format!("{it} && {it}.textContent !== {}", json!(than)));
    }

    /// Waits until an element's text passes a test, such as `=== 'feed: live'`.
    pub(crate) fn wait_text(&mut self, id: &str, test: &str) {
        self.browser.wait(&shown(id, test));
    }

    /// Waits for an event with this text.
    pub(crate) fn wait_event(&mut self, text: &str) {
        self.browser.wait(&format!(
            "[...document.querySelectorAll('#events li')].some((it) => it.textContent.includes({}))",
            json!(text)
        ));
    }

    /// Waits until all rows that are seen are in this state.
    pub(crate) fn wait_rows(&mut self, state: &str) {
        self.browser.wait(&format!(
            "(() => {{ const rows = [...document.querySelectorAll('#rows .row:not([hidden])')]; \
             return rows.length > 5 && rows.every((row) => row.dataset.state === {}); }})()",
            json!(state)
        ));
    }

    /// How many gaps are drawn: lines of the tape, and events.
    pub(crate) fn gaps(&mut self) -> Value {
        self.browser
            .eval("document.querySelectorAll('#trades tr.gap, #events li[data-tone=gap]').length")
    }

    /// Nothing was complained about but what has one of these texts, and nothing was forbidden by the policy.
    pub(crate) fn check(&mut self, expected: &[&str]) {
        let complaints = self.browser.complaints(expected);
        assert!(complaints.is_empty(), "{complaints:#?}");
        assert_eq!(self.browser.eval("violations"), json!([]));
    }
}

/// A cell of the watch list.
pub(crate) fn cell(symbol: &str, column: &str) -> String {
    format!(
        "[...document.querySelectorAll('#rows .row:not([hidden])')]\
         .find((row) => row.querySelector('.c-symbol').textContent === {})?.querySelector('.c-{column}')",
        json!(symbol)
    )
}

fn shown(id: &str, test: &str) -> String {
    format!("document.getElementById('{id}').textContent {test}")
}
