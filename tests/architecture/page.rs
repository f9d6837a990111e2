//! src/ARCHITECTURE.md as text: its length, the paths that it names, and the rows of its code map. What it
//! is not: a judge of its sentences.

use std::path::Path;

/// Words of the page, as `wc -w` counts them. A longer one is not read in one sitting.
const WORDS_MAX: usize = 2_000;

/// Where the paths of the page begin.
const ROOTS: [&str; 2] = ["src", "."];

/// The page.
pub(crate) fn text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ARCHITECTURE.md");
    std::fs::read_to_string(path).expect("src/ARCHITECTURE.md")
}

/// What the first cells of the code map name, in order.
pub(crate) fn map_rows(page: &str) -> Vec<String> {
    let rows = page.lines().skip_while(|line| *line != "| module | what it is |").skip(2);
    let cells = rows.map_while(|line| line.strip_prefix("| `")?.split_once('`'));
    cells.map(|(file, _)| file.to_owned()).collect()
}

/// What stands between backticks and looks like a path: it has a slash, or ends like a file of the source.
fn named_paths(page: &str) -> Vec<&str> {
    let is_path = |text: &&str| {
        let file = [".rs", ".md", ".toml"].iter().any(|ending| text.ends_with(ending));
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        (file || text.contains('/')) && text.chars().all(plain)
    };
    // Of a page whose backticks are closed, every second piece stands between two.
    let spans = page.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
    spans.filter(is_path).collect()
}

/// The paths that lead nowhere. One with a slash at its end is a folder.
fn dead_paths(page: &str) -> Vec<&str> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let leads_somewhere = |path: &str| {
        let mut places = ROOTS.iter().map(|top| root.join(top).join(path));
        places.any(|place| if path.ends_with('/') { place.is_dir() } else { place.is_file() })
    };
    named_paths(page).into_iter().filter(|path| !leads_somewhere(path)).collect()
}

#[test]
fn the_page_is_short() {
    let words = text().split_whitespace().count();
    assert!(
        words <= WORDS_MAX,
        "{words} words; at most {WORDS_MAX}: move what one module owns there"
    );
}

#[test]
fn every_path_on_the_page_exists() {
    let page = text();
    assert!(named_paths(&page).len() > 50, "{:?}", named_paths(&page));
    assert_eq!(dead_paths(&page), Vec::<&str>::new());
}

#[test]
fn the_page_names_its_invariants() {
    assert!(text().lines().filter(|line| line.starts_with("Invariant: ")).count() > 5);
}

#[test]
fn dead_paths_and_missing_rows_are_seen() {
    let page = "See `wire/frame.rs`, `wire/gone.rs`, `tests/sim/`, `wire/frame.rs/` and `gone/`.\n\
                ```\n`no/path`\n```\nNot `fn f()`, `seq`, `$sys.breaker` or `cargo doc -p a/b`, but `PERF.md`.";
    assert_eq!(named_paths(page).len(), 6);
    assert_eq!(dead_paths(page), ["wire/gone.rs", "wire/frame.rs/", "gone/"]);
    let map = "| module | what it is |\n|---|---|\n| `wire/` | x `y/` |\n| `time.rs` | z |\n\n| `no/` | n |";
    assert_eq!(map_rows(map), ["wire/", "time.rs"]);
}
