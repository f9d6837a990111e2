//! The manual: how to run the system and what its programs print. The index is below.
//!
//! The pages are the Markdown files of this folder, so that `cargo doc` and a reader on a forge show the same
//! text. The two need different links. Of two definitions of a link Markdown takes the first one, so each page is
//! included behind definitions for `cargo doc`, and ends with the same ones for a forge.
//!
//! [nodes]: crate::manual::nodes
//! [commands]: crate::manual::commands
//! [configuration]: crate::manual::configuration
//! [exit codes]: crate::manual::exit_codes
//! [JSON formats]: crate::manual::json_formats
//! [subscriptions]: crate::manual::subscriptions
//! [watch]: crate::manual::watch
//! [questions]: crate::manual::questions
//! [tapes]: crate::manual::tapes
//! [publish]: crate::manual::publish
//! [gateway]: crate::manual::gateway
//! [misbehaviour]: crate::manual::misbehaviour
//! [retention]: crate::manual::retention
//! [replicas]: crate::manual::replicas
//! [operations]: crate::manual::operations
//! [export]: crate::manual::export
//! [loadgen]: crate::manual::loadgen
//! [screens]: crate::manual::screens
//! [padroes]: crate::manual::padroes
//! [PROTOCOL.md]: crate::wire
//! [FORMAT.md]: crate::log
//! [client]: crate::client
//!
#![doc = include_str!("README.md")]

/// Each page as an empty module that has its text, and all of them as a list for the tests.
macro_rules! pages {
    ($($module:ident $file:literal)*) => {
        $(
            #[doc = "[manual]: crate::manual"]
            #[doc = "[nodes]: crate::manual::nodes"]
            #[doc = "[commands]: crate::manual::commands"]
            #[doc = "[configuration]: crate::manual::configuration"]
            #[doc = "[exit codes]: crate::manual::exit_codes"]
            #[doc = "[JSON formats]: crate::manual::json_formats"]
            #[doc = "[subscriptions]: crate::manual::subscriptions"]
            #[doc = "[watch]: crate::manual::watch"]
            #[doc = "[questions]: crate::manual::questions"]
            #[doc = "[tapes]: crate::manual::tapes"]
            #[doc = "[publish]: crate::manual::publish"]
            #[doc = "[gateway]: crate::manual::gateway"]
            #[doc = "[misbehaviour]: crate::manual::misbehaviour"]
            #[doc = "[retention]: crate::manual::retention"]
            #[doc = "[replicas]: crate::manual::replicas"]
            #[doc = "[operations]: crate::manual::operations"]
            #[doc = "[metrics]: crate::manual::metrics"]
            #[doc = "[export]: crate::manual::export"]
            #[doc = "[loadgen]: crate::manual::loadgen"]
            #[doc = "[screens]: crate::manual::screens"]
            #[doc = "[padroes]: crate::manual::padroes"]
            #[doc = "[PROTOCOL.md]: crate::wire"]
            #[doc = "[FORMAT.md]: crate::log"]
            #[doc = "[client]: crate::client"]
            #[doc = ""]
            #[doc = include_str!($file)]
            pub mod $module {}
        )*

        #[cfg(test)]
        const PAGES: &[(&str, &str)] = &[$(($file, include_str!($file)),)*];
    };
}

pages! {
    nodes "nodes.md"
    commands "commands.md"
    configuration "configuration.md"
    exit_codes "exit_codes.md"
    json_formats "json_formats.md"
    subscriptions "subscriptions.md"
    watch "watch.md"
    questions "questions.md"
    tapes "tapes.md"
    publish "publish.md"
    gateway "gateway.md"
    misbehaviour "misbehaviour.md"
    retention "retention.md"
    replicas "replicas.md"
    operations "operations.md"
    metrics "metrics.md"
    export "export.md"
    loadgen "loadgen.md"
    screens "screens.md"
    padroes "padroes.md"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::PAGES;

    const INDEX: &str = include_str!("README.md");
    const THIS_FILE: &str = include_str!("mod.rs");
    const README: &str = include_str!("../../README.md");

    /// Links of the pages to what is no page, and where they lead on a forge.
    const ELSEWHERE: [(&str, &str); 4] = [
        ("manual", "README.md"),
        ("PROTOCOL.md", "../wire/PROTOCOL.md"),
        ("FORMAT.md", "../log/FORMAT.md"),
        ("client", "../client/mod.rs"),
    ];

    /// The definitions `[name]: target` of a text.
    fn definitions(text: &str) -> impl Iterator<Item = (&str, &str)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix('['));
        lines.filter_map(|line| line.split_once("]: "))
    }

    fn target(name: &str) -> String {
        let elsewhere = ELSEWHERE.iter().find(|(it, _)| *it == name);
        let page = || format!("{}.md", name.to_lowercase().replace(' ', "_"));
        elsewhere.map_or_else(page, |(_, target)| (*target).to_owned())
    }

    #[test]
    fn a_link_that_one_of_two_readers_cannot_follow() {
        let files: BTreeSet<&str> = PAGES.iter().map(|(file, _)| *file).collect();
        for (page, text) in PAGES.iter().chain(&[("README.md", INDEX)]) {
            assert!(!text.contains("]("), "{page}: name the target at the end of the page");
            let mut defined = BTreeSet::new();
            for (name, to) in definitions(text) {
                assert_eq!(to, target(name), "{page}: [{name}]");
                assert!(files.contains(to) || ELSEWHERE.iter().any(|(_, it)| *it == to), "{page}");
                // `cargo doc` has to define the same name, for the pages and for the index.
                let for_pages = format!("#[doc = \"[{name}]: crate::");
                assert!(THIS_FILE.contains(&for_pages), "{page}: [{name}] in `pages!`");
                defined.insert(name);
            }
            for name in used(text) {
                assert!(defined.contains(name), "{page}: [{name}] is not defined at its end");
            }
        }
    }

    /// The names in brackets outside of code.
    fn used(text: &str) -> Vec<&str> {
        let prose = text.split("```").step_by(2).flat_map(str::lines);
        let prose = prose.filter(|line| !line.starts_with('[') || !line.contains("]: "));
        let outside = prose.flat_map(|line| line.split('`').step_by(2));
        let opened = outside.flat_map(|part| part.split('[').skip(1));
        opened.filter_map(|rest| rest.split_once(']')).map(|(name, _)| name).collect()
    }

    #[test]
    fn a_page_that_the_index_does_not_name() {
        let named: BTreeSet<&str> = definitions(INDEX).map(|(_, to)| to).collect();
        for (page, text) in PAGES {
            assert!(named.contains(page), "{page}");
            assert!(text.starts_with("# "), "{page} has no title");
        }
    }

    #[test]
    fn a_first_screen_that_does_not_say_how_to_begin() {
        let screen: Vec<&str> = README.lines().take(24).collect();
        let wide: Vec<_> = screen.iter().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:?}");
        let commands = screen.iter().filter(|line| line.starts_with("cargo run --release -- "));
        assert_eq!(commands.count(), 2);
        assert!(screen.iter().any(|line| line.starts_with("TIME UTC     KIND   SYMBOL")));
    }
}
