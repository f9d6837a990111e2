//! What the command line of this test binary says: its own options, and those of the test runner, which
//! `cargo test` passes to every binary alike and which must not break it.

/// The usage, for an option that is not known.
pub(crate) const USAGE: &str = "\
usage: cargo test --test sim -- [FILTER]... [OPTIONS]
  --seed N          one bad day
  --log             tell what happens in it
  --bug NAME        with this planted bug
  --seeds N         a long run of N days
  --first N         from this seed on
  --jobs N          in so many threads
  --list, --exact, --skip TEXT, --test-threads N, --quiet, --nocapture … as the test runner's";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) seed: Option<u64>,
    pub(crate) seeds: Option<u64>,
    pub(crate) first: u64,
    pub(crate) jobs: Option<usize>,
    pub(crate) is_told: bool,
    pub(crate) bug: Option<String>,
    pub(crate) is_list: bool,
    pub(crate) is_exact: bool,
    pub(crate) only_ignored: bool,
    pub(crate) filters: Vec<String>,
    pub(crate) skips: Vec<String>,
}

impl Args {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Args, String> {
        let mut args = Args::default();
        let mut words = words;
        while let Some(word) = words.next() {
            let (name, given) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => {
                    (name.to_owned(), Some(value.to_owned()))
                }
                _ => (word, None),
            };
            let mut value = || {
                let next = given.clone().or_else(|| words.next());
                next.ok_or_else(|| format!("{name} needs a value"))
            };
            match name.as_str() {
                "--seed" => args.seed = Some(number(&value()?)?),
                "--seeds" => args.seeds = Some(number(&value()?)?),
                "--first" => args.first = number(&value()?)?,
                "--jobs" | "--test-threads" => {
                    args.jobs = Some(usize::try_from(number(&value()?)?).unwrap_or(1).max(1));
                }
                "--log" => args.is_told = true,
                "--bug" => args.bug = Some(value()?),
                "--list" => args.is_list = true,
                "--exact" => args.is_exact = true,
                "--ignored" => args.only_ignored = true,
                "--skip" => args.skips.push(value()?),
                // The runner's, that mean nothing here.
                "--format" | "--color" | "--logfile" | "--shuffle-seed" | "-Z" => drop(value()?),
                "--nocapture"
                | "--no-capture"
                | "--show-output"
                | "--quiet"
                | "-q"
                | "--bench"
                | "--test"
                | "--include-ignored"
                | "--report-time"
                | "--ensure-time"
                | "--shuffle"
                | "--force-run-in-process"
                | "--exclude-should-panic" => {}
                filter if !filter.starts_with('-') => args.filters.push(filter.to_owned()),
                _ => return Err(format!("unknown option {name}\n{USAGE}")),
            }
        }
        Ok(args)
    }

    /// Whether a test of this name is to run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let fits = |text: &String| if self.is_exact { name == text } else { name.contains(text) };
        let is_named = self.filters.is_empty() || self.filters.iter().any(fits);
        is_named && !self.skips.iter().any(fits) && !self.only_ignored
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

/// The runner's options are understood in both of their forms, and a filter is a filter.
pub(crate) fn options_of_the_runner_do_not_break() {
    let read = |text: &str| Args::read(text.split_whitespace().map(str::to_owned));
    for text in ["--test-threads=1", "--test-threads 1", "--nocapture", "-q --format terse"] {
        assert!(read(text).is_ok_and(|args| args.wants("anything")), "{text}");
    }
    let args = read("bad --skip worse").unwrap();
    assert!(args.wants("a_bad_day") && !args.wants("a_worse_bad_day") && !args.wants("fair"));
    assert!(!read("bad --exact").unwrap().wants("a_bad_day"));
    let args = read("--seed 42 --log").unwrap();
    assert_eq!((args.seed, args.is_told), (Some(42), true));
    assert!(read("--seed many").is_err() && read("--frob").is_err() && read("--seed").is_err());
}
