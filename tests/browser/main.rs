//! The page in a real browser: headless Chromium, driven through its DevTools protocol, against the real program.
//!
//! Nothing here sleeps: every wait looks again until a deadline that only a broken system reaches. Where there is no
//! Chromium, each test says that it is skipped.
//!
//! `devtools` is the browser, `market_page` what is read of the page, and the others are the tests. Pictures for people to look at
//! are written to `target/screenshots/`.

#[cfg(test)]
mod breaking;
#[cfg(test)]
mod devtools;
#[cfg(test)]
mod following;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod market_page;
#[cfg(test)]
mod painting;
#[cfg(test)]
mod pictures;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
