//! The tour of the README, typed into a shell: each command ends with the exit code that the README states, and prints
//! what the manual shows, at two sizes of a terminal.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::page::{difference, is_renewing, plain_addresses, renew};
use super::process::{Deadline, PATIENCE, PROGRAM};
use super::shell::Shell;
use super::system::Place;

const README: &str = include_str!("../../README.md");
const PAGE: &str = "screens.md";

/// A command of the README, and the exit code that its line states.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    code: i32,
}

/// The commands between two headings, without those that build the program.
fn steps(from: &str, to: &str) -> Vec<Step> {
    let start = README.find(from).expect(from);
    let end = start + README[start..].find(to).expect(to);
    let blocks = README[start..end].split("```sh\n").skip(1);
    let text: String = blocks.map(|block| block.split("```").next().unwrap()).collect();
    let text = text.replace("\\\n", "");
    let step = |line: &str| {
        let (command, code) = match line.split_once("# exit code ") {
            Some((command, code)) => (command, code.trim().parse().expect("a number")),
            None => (line, 0),
        };
        Step { command: command.split_whitespace().collect::<Vec<_>>().join(" "), code }
    };
    let is_build = |line: &&str| line.starts_with("cargo ") || line.starts_with("export PATH");
    text.lines().filter(|line| !line.is_empty() && !is_build(line)).map(step).collect()
}

/// The program under the name that the README uses, at addresses and in a directory of the test.
fn install(place: &Place) -> std::path::PathBuf {
    let programs = place.config_file().with_file_name("programs");
    fs::create_dir(&programs).unwrap();
    // The real curl, with the address of this system for the one of the README.
    let gateway = place.address("gateway");
    let curl = format!(
        "#!/bin/sh\nfor word do shift\n\
         set -- \"$@\" \"$(printf %s \"$word\" | sed s,http://127.0.0.1:8090,http://{gateway},)\"\n\
         done\nPATH=\"${{PATH#*:}}\" exec curl -sS \"$@\"\n"
    );
    executable(&programs.join("curl"), &curl);
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\nall|subscribe|report|publish|status|breaker)\n\
         exec '{PROGRAM}' \"$@\" --config='{}' --host={} ;;\n*) exec '{PROGRAM}' \"$@\" ;;\nesac\n",
        place.config_file().display(),
        place.host
    );
    executable(&programs.join("pregao"), &script);
    programs
}

fn executable(program: &std::path::Path, script: &str) {
    fs::write(program, script).unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What a command has printed.
struct Seen {
    command: String,
    printed: String,
}

impl Seen {
    /// What is on a screen of this size when the command has ended: its last lines, if there are more.
    fn screen(&self, (columns, rows): (u16, u16)) -> String {
        let command = format!("$ {}", self.command);
        let (columns, rows) = (usize::from(columns), usize::from(rows));
        let rows_of = |line: &&str| line.chars().count().div_ceil(columns).max(1);
        let lines: Vec<&str> = self.printed.lines().collect();
        // The command stands above, and the next prompt below.
        let mut left = rows - 2;
        let shown = lines.iter().rev().take_while(|line| {
            let fits = rows_of(line) <= left;
            left = left.saturating_sub(rows_of(line));
            fits
        });
        let from = lines.len() - shown.count();
        let above = (from > 0).then(|| format!("[ {from} lines have left the screen ]"));
        let lines = lines[from..].iter().map(|line| (*line).to_owned());
        let all = [command].into_iter().chain(above).chain(lines);
        all.map(|line| line + "\n").collect()
    }
}

/// Types the steps; gives what each has printed.
fn walk(steps: &[Step], size: (u16, u16)) -> Vec<Seen> {
    let place = Place::new();
    let mut shell = Shell::start(&install(&place), size);
    let directory = place.config_file().parent().unwrap().join("tmp");
    fs::create_dir(&directory).unwrap();
    let here = |text: &str| text.replace("/tmp/", &format!("{}/", directory.display()));
    let mut seen = Vec::new();
    for Step { command, code } in steps {
        if command.starts_with("sleep ") {
            // On a slow machine the time of the README is too short, and on a fast one too long.
            wait_well(&place);
            continue;
        }
        let (printed, ended) = shell.run(&here(command));
        let printed = printed.join("\n").replace(&directory.display().to_string(), "/tmp");
        assert_eq!(ended, *code, "{command}\n{printed}\n{}", log(&directory));
        seen.push(Seen { command: command.clone(), printed: plain_addresses(&place, &printed) });
    }
    seen
}

fn log(directory: &std::path::Path) -> String {
    let logs = fs::read_dir(directory).unwrap().flatten().map(|it| it.path());
    let logs = logs.filter(|path| path.extension().is_some_and(|it| it == "log"));
    logs.map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
}

fn wait_well(place: &Place) {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let status = place.run("status", &["--deadline", "10s"]);
        // While the exchange is away, which it is on purpose now and then, the code is 0 too.
        if status.stdout.first().is_some_and(|line| line.starts_with("OK: ")) {
            return;
        }
        assert!(!deadline.is_over(), "{status:?}");
        status_pause();
    }
}

/// Between two looks at a system that tells nobody when it is well.
fn status_pause() {
    super::process::Lines::default().pause();
}

/// Walks the tour, and compares what a terminal of this size has shown.
fn shows_what_the_manual_has(size: (u16, u16)) {
    let (columns, rows) = size;
    let seen = walk(&steps("## A tour of five minutes", "### The same with curl"), size);
    let lines = seen.iter().flat_map(|seen| seen.printed.lines());
    let lines = lines.filter(|line| !line.starts_with('{'));
    let wide: Vec<&str> = lines.filter(|line| line.chars().count() > columns.into()).collect();
    assert!(wide.is_empty(), "wider than the terminal: {wide:#?}");
    let eighty = seen.iter().find(|seen| seen.command.ends_with("--count 80")).unwrap();
    let headers = eighty.printed.lines().filter(|line| line.starts_with("TIME UTC")).count();
    assert_eq!(headers, 80_usize.div_ceil(usize::from(rows) - 2), "one on each screen");
    let seen: String = seen.iter().map(|seen| seen.screen(size)).collect();
    let heading = format!("The tour on {columns} × {rows}");
    if is_renewing() {
        return renew(PAGE, &heading, &seen);
    }
    if let Some(difference) = difference(PAGE, &heading, &seen) {
        panic!("{difference}");
    }
}

#[test]
fn the_tour_on_a_terminal_of_a_real_shell_with_80_columns() {
    shows_what_the_manual_has((80, 24));
}

#[test]
fn the_tour_on_a_terminal_of_a_real_shell_with_100_columns() {
    shows_what_the_manual_has((100, 30));
}

#[test]
fn the_real_day_of_the_tour_in_a_real_shell_ends_each_command_with_the_code_of_the_readme() {
    let seen = walk(&steps("### The same with a real day", "To remove what the tour"), (80, 24));
    assert!(seen.iter().any(|seen| seen.printed.starts_with("AMZN  bid")), "no report");
}

#[test]
fn the_lines_with_curl_work_as_the_readme_has_them() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl");
        return;
    }
    let mut tour = steps("## A tour of five minutes", "**1. Is everybody there?**");
    tour.extend(steps("### The same with curl", "### The same with a real day"));
    let seen = walk(&tour, (200, 50));
    let of = |what: &str| seen.iter().find(|it| it.command.contains(what)).unwrap();
    assert!(of("/v1/quotes").printed.contains("\"complete\":true"), "{}", of("quotes").printed);
    assert!(of("/v1/bars").printed.starts_with("symbol,start,open"), "{}", of("bars").printed);
    assert!(of("/v1/events").printed.contains("event: quote"), "{}", of("events").printed);
    assert!(of("/readyz").printed.contains("\"ready\":true"), "{}", of("readyz").printed);
}

#[test]
fn a_line_of_the_readme_states_its_exit_code() {
    let steps = steps("## A tour of five minutes", "To remove what the tour");
    let codes: Vec<i32> = steps.iter().map(|step| step.code).filter(|code| *code != 0).collect();
    assert_eq!(codes, [3, 3, 28], "{steps:#?}");
    assert!(steps.iter().any(|step| step.command == "pregao report PETR4 --last 2"), "{steps:#?}");
    assert!(steps.len() > 25, "{steps:#?}");
}
