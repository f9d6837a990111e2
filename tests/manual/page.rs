//! A block of text on a page of the manual, compared with what was printed now, or written anew.

use std::fs;
use std::sync::{Mutex, PoisonError};

use super::normal::normal;
use super::system::Place;

/// Pages have many blocks, and tests run beside each other.
static WRITING: Mutex<()> = Mutex::new(());

/// Where a block lies in its page: between the fences behind this heading.
fn block(text: &str, heading: &str) -> std::ops::Range<usize> {
    let heading = format!("\n## {heading}\n");
    let start = text.find(&heading).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let open = "```text\n";
    let start = start + text[start..].find(open).expect("a block behind it") + open.len();
    start..start + text[start..].find("```").expect("the end of the block")
}

fn path(page: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual").join(page)
}

/// Why the block of this page is not what was printed; `None`: it is.
pub(crate) fn difference(page: &str, heading: &str, printed: &str) -> Option<String> {
    let text = fs::read_to_string(path(page)).unwrap();
    let (want, got) = (normal(&text[block(&text, heading)]), normal(printed));
    if want == got {
        return None;
    }
    let at = want.iter().zip(&got).take_while(|(want, got)| want == got).count();
    let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "the end".to_owned());
    Some(format!(
        "{page}, {heading}: the page has {:?} and the program prints {:?}. If it should: \
         PREGAO_RENEW=1 cargo test --test manual\n{printed}",
        line(&want),
        line(&got)
    ))
}

/// Whether the pages are written anew.
pub(crate) fn is_renewing() -> bool {
    std::env::var_os("PREGAO_RENEW").is_some()
}

/// Writes what was printed into the page.
pub(crate) fn renew(page: &str, heading: &str, printed: &str) {
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = fs::read_to_string(path(page)).unwrap();
    let block = block(&text, heading);
    text.replace_range(block, printed);
    fs::write(path(page), text).unwrap();
}

/// The text with the addresses that a user has instead of those of a test. They keep their column.
pub(crate) fn plain_addresses(place: &Place, text: &str) -> String {
    let host = place.host.to_string();
    let plain = |line: &str| {
        let Some((before, rest)) = line.split_once(&host) else { return line.to_owned() };
        let (port, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let behind = rest.trim_start();
        let width = host.len() + port.len() + 1 + rest.len() - behind.len();
        format!("{before}{:width$}{behind}", format!("127.0.0.1{port}"))
    };
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}
