//! The two queues with real threads between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn heard(jobs: &mut Jobs<u32, u32>) -> Vec<u32> {
    let mut heard = Vec::new();
    while let Some(answer) = jobs.wait() {
        match answer {
            Answer::Done(number) => heard.push(number),
            Answer::Gone => panic!("gone after {heard:?}"),
        }
    }
    heard
}

fn counted() -> (Arc<AtomicUsize>, Wake) {
    let rung = Arc::new(AtomicUsize::new(0));
    let ring = Arc::clone(&rung);
    (
        rung,
        Box::new(move || {
            ring.fetch_add(1, Ordering::Release);
        }),
    )
}

#[test]
fn a_thread_answers_each_job_once_and_wakes_for_each() {
    let (mut jobs, list) = queues();
    let (rung, wake) = counted();
    let thread = std::thread::spawn(move || list.run(|job: u32| job * 2, &wake));
    let mut answers = Vec::new();
    for round in 0..20 {
        (round * 5..round * 5 + 5).for_each(|job| jobs.start(job));
        answers.extend(heard(&mut jobs));
    }
    assert_eq!(answers, (0..100).map(|job| job * 2).collect::<Vec<_>>());
    jobs.stop();
    thread.join().unwrap();
    assert_eq!(rung.load(Ordering::Acquire), 101, "each answer, and the end");
}

/// A reactor that sleeps until it is woken would sleep for ever at one answer without a wake.
#[test]
fn who_looks_only_when_woken_gets_every_answer() {
    let (mut jobs, list) = queues();
    let (wake_sent, woken) = bounded::<()>(1);
    let wake: Wake = Box::new(move || {
        let _ = wake_sent.try_send(());
    });
    let thread = std::thread::spawn(move || list.run(|job: u32| job, &wake));
    let mut heard = Vec::new();
    for job in 0..20 {
        jobs.start(job);
        while heard.last() != Some(&job) {
            woken.recv().unwrap();
            while let Some(answer) = jobs.poll() {
                let Answer::Done(number) = answer else { panic!("{answer:?}") };
                heard.push(number);
            }
        }
    }
    assert_eq!(heard, (0..20).collect::<Vec<_>>());
    jobs.stop();
    thread.join().unwrap();
}

#[test]
fn what_was_started_is_done_when_the_log_stops() {
    let (mut jobs, list) = queues();
    let (_, wake) = counted();
    let jobs_max = u32::try_from(STORAGE_JOBS_MAX).unwrap();
    (0..jobs_max).for_each(|job| jobs.start(job));
    jobs.stop();
    let mut done = Vec::new();
    list.run(|job| done.push(job), &wake);
    assert_eq!(done, (0..jobs_max).collect::<Vec<_>>());
}

#[test]
fn a_thread_that_panics_is_reported_once_and_wakes() {
    let (mut jobs, list) = queues();
    let (rung, wake) = counted();
    let work = |job: u32| if job == 1 { panic!("the job") } else { job };
    let thread = std::thread::spawn(move || list.run(work, &wake));
    (0..4).for_each(|job| jobs.start(job));
    assert!(thread.join().is_err());
    assert_eq!(rung.load(Ordering::Acquire), 2);
    assert_eq!(jobs.poll(), Some(Answer::Done(0)));
    assert_eq!(jobs.poll(), Some(Answer::Gone));
    jobs.start(9);
    assert_eq!((jobs.poll(), jobs.wait(), jobs.under_way()), (None, None, 0));
}
