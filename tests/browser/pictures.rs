//! The page in the sizes and colours that people have: nothing is wider than the window, no row lies on another one, and
//! each is a picture to look at.

use crate::market_page::MarketPage;
use crate::support::system::System;

const WIDE: (u32, u32) = (1280, 900);
const NARROW: (u32, u32) = (390, 844);

#[test]
fn every_size_has_room_for_everything() {
    let system = System::start(&["--rate", "1000", "--chaos", "off"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let Some(mut page) = MarketPage::open(gateway, "VALE3") else { return };
    page.wait_text("feed", "=== 'feed: live'");
    // Something to look at: a few bars, and what the system says of itself.
    page.browser.click("#intervals button:nth-child(1)");
    page.browser.wait("document.querySelectorAll('#trades tr').length > 30");
    page.browser.wait("document.querySelector('#road svg')");
    for scheme in ["light", "dark"] {
        page.browser.show_as(WIDE, scheme);
        picture(&mut page, &format!("1280-{scheme}"));
        page.browser.show_as(NARROW, scheme);
        for tab in ["list", "instrument", "tape", "system"] {
            page.browser.click(&format!("nav button[data-tab={tab}]"));
            page.browser.wait(&format!("document.body.dataset.tab === '{tab}'"));
            page.browser.show_as(NARROW, scheme);
            picture(&mut page, &format!("390-{scheme}-{tab}"));
        }
    }
    page.check(&[]);
}

fn picture(page: &mut MarketPage, name: &str) {
    page.browser.screenshot(name);
    let widths = page.browser.eval("[document.documentElement.scrollWidth, innerWidth]");
    assert!(widths[0].as_u64() <= widths[1].as_u64(), "{name}: {widths}");
    // Rows lie below each other, also where they have just got another height.
    page.browser.wait(
        "[...document.querySelectorAll('#rows .row:not([hidden])')].map((row) => row.getBoundingClientRect())\
         .sort((one, other) => one.top - other.top)\
         .every((row, at, all) => at === 0 || row.top >= all[at - 1].bottom - 0.5)",
    );
}
