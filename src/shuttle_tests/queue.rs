//! Group commits of eight threads: one leader at a time, everybody gets their own result once, nobody sleeps for ever.

use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicBool, Ordering};

use super::{explore, explore_planted};
use crate::commit::queue::GroupCommit;
use crate::sync::{Mutex, Planted};

const THREADS: u64 = 8;
/// Submissions of each thread.
const ITEMS: u64 = 4;

fn group_commit() {
    let group: Arc<GroupCommit<u64, u64>> = Arc::new(GroupCommit::new(|| u64::MAX));
    let (log, is_led) = (Arc::new(Mutex::new(Vec::<u64>::new())), Arc::new(AtomicBool::new(false)));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (group, log, is_led) = (group.clone(), log.clone(), is_led.clone());
            shuttle::thread::spawn(move || {
                for item in thread * ITEMS..(thread + 1) * ITEMS {
                    let result = group.submit(item, |items| {
                        assert!(!is_led.swap(true, Ordering::SeqCst), "one leads at a time");
                        log.lock().extend(&items);
                        is_led.store(false, Ordering::SeqCst);
                        items.into_iter().map(|item| item * 10).collect()
                    });
                    assert_eq!(result, item * 10);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut seen = log.lock().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..THREADS * ITEMS).collect::<Vec<_>>(), "every item was processed once");
}

/// A leader that can't go on answers nobody: its followers get what stands for no answer.
fn a_leader_that_fails() {
    let group: Arc<GroupCommit<u64, Option<u64>>> = Arc::new(GroupCommit::new(|| None));
    let threads: Vec<_> = (0..THREADS)
        .map(|item| {
            let group = group.clone();
            shuttle::thread::spawn(move || {
                let answer = group.submit(item, |items| match items.contains(&3) {
                    // As a panic would end it.
                    true => Vec::new(),
                    false => items.into_iter().map(Some).collect(),
                });
                assert!(answer.is_none_or(|answer| answer == item));
                assert!(item != 3 || answer.is_none(), "what failed is not acknowledged");
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_group_commit_of_eight_threads_loses_nobody() {
    explore("group commit, 8 threads", group_commit);
    explore_planted("group commit, 8 threads, forgotten leader", Planted::ForgottenLeader, group_commit);
    explore_planted("group commit, 8 threads, two leaders", Planted::TwoLeaders, group_commit);
}

#[test]
fn a_leader_that_fails_answers_all_whom_it_led() {
    explore("failing leader, 8 threads", a_leader_that_fails);
    explore_planted("failing leader, orphaned followers", Planted::OrphanedFollowers, a_leader_that_fails);
}
