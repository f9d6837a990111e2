//! The end of a tape: every place where a person looks says that the feed has ended, and none says that it is
//! live or sick.

use serde_json::Value;

use super::process::json;
use super::system::System;
use super::tapes::AMZN;

#[test]
fn a_tape_that_has_ended_is_told_as_ended_by_log_report_status_and_subscribe() {
    let system = System::start(&["--tape", AMZN, "--speed", "max", "--chaos", "off"]);
    system.wait_log("external", "the tape has ended");
    system.wait_log("core", "the exchange's feed has ended");

    let report =
        system.wait_report("AMZN", &["--last", "1"], |report| report["quote_source"] == "ended");
    assert_eq!(report["quote"]["flags"], Value::from(["last", "ended"].to_vec()));
    let report = system.place.run("report", &["AMZN", "--last", "0"]).expect(0);
    assert!(report.stdout[0].contains("(ended, "), "{report:?}");
    let spread = system.place.run("report", &["AMZN", "--spread", "--format", "json"]).expect(0);
    assert_eq!(spread.json()[0]["quotes"], 1, "it is the last spread that there was: {spread:?}");

    let status = system.place.run("status", &["--deadline", "10s"]).expect(0);
    assert!(status.stdout[0].starts_with("ENDED: "), "{status:?}");

    let told = |format| system.place.start("subscribe", &["AMZN", "--format", format]);
    let found =
        |lines: &[String]| lines.iter().find(|line| line.contains("the feed has ended")).cloned();
    let line = told("table").stdout.wait("the end of the feed", found);
    assert!(line.contains("ended "), "{line}");
    let told = told("json");
    told.stdout.wait_told("ended", super::process::PATIENCE);
    assert!(told.stdout.all().iter().all(|line| json(line)["kind"] != "stale"));
}
