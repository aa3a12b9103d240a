//! Group commits: who leads, who is told, and that nobody builds on what a leader left half done.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};

use super::{explore, explore_planted};
use crate::commit::queue::GroupCommit;
use crate::sync::Planted;
use crate::version::published::Published;

/// Two or three threads that commit; the leader's work is exclusive, and everybody gets their own result once.
fn group_commit(threads: u64) -> impl Fn() + Sync + Send + 'static {
    move || {
        let group: Arc<GroupCommit<u64, u64>> = Arc::new(GroupCommit::new(|| u64::MAX));
        // Loom reports two leaders at once as concurrent writes.
        let log: Arc<UnsafeCell<Vec<u64>>> = Arc::new(UnsafeCell::new(Vec::new()));
        let submit = |group: &GroupCommit<u64, u64>, log: &UnsafeCell<Vec<u64>>, item: u64| {
            let result = group.submit(item, |items| {
                // SAFETY: one leader at a time; loom checks it.
                log.with_mut(|log| unsafe { (*log).extend(&items) });
                items.into_iter().map(|item| item * 10).collect()
            });
            assert_eq!(result, item * 10);
        };
        let others: Vec<_> = (1..threads)
            .map(|item| {
                let (group, log) = (group.clone(), log.clone());
                loom::thread::spawn(move || submit(&group, &log, item))
            })
            .collect();
        submit(&group, &log, threads);
        for other in others {
            other.join().unwrap();
        }
        // SAFETY: all threads are joined.
        let mut seen = log.with(|log| unsafe { (*log).clone() });
        seen.sort_unstable();
        assert_eq!(seen, (1..=threads).collect::<Vec<_>>(), "every item was processed once");
    }
}

#[test]
fn a_group_commit_loses_nobody() {
    explore("group commit, 2 threads", 4, group_commit(2));
    explore("group commit, 3 threads", 2, group_commit(3));
    explore_planted("group commit, forgotten leader", 2, Some(Planted::ForgottenLeader), group_commit(2));
    explore_planted("group commit, two leaders", 2, Some(Planted::TwoLeaders), group_commit(2));
}

/// Bugs planted in what the leader does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lapse {
    None,
    /// Whoever is led is answered before the version is published.
    AnswersFirst,
    /// A failure is not remembered.
    ForgetsPoison,
}

/// A version: its number, which loom watches.
struct Stamp(UnsafeCell<u64>);

/// The end of the log: its records, and whether the last was only begun.
#[derive(Default)]
struct End {
    records: Vec<u64>,
    is_half_done: bool,
}

struct Store {
    group: GroupCommit<u64, Option<u64>>,
    published: Published<Stamp>,
    end: UnsafeCell<End>,
    poison: AtomicBool,
    lapse: Lapse,
}

/// The item whose writing fails.
const BROKEN: u64 = 99;

impl Store {
    fn new(lapse: Lapse) -> Arc<Store> {
        Arc::new(Store {
            group: GroupCommit::new(|| None),
            published: Published::new(Box::new(Stamp(UnsafeCell::new(0)))),
            end: UnsafeCell::new(End::default()),
            poison: AtomicBool::new(false),
            lapse,
        })
    }

    /// The current version.
    fn version(&self) -> u64 {
        // SAFETY: versions are never freed here, so that nothing has to wait for a guard.
        let stamp = self.published.load(unsafe { crossbeam_epoch::unprotected() });
        // SAFETY: that nobody writes to it any more is what loom checks.
        stamp.0.with(|version| unsafe { *version })
    }

    fn commit(&self, item: u64) -> Option<u64> {
        let before = self.version();
        let mut late = None;
        let answer = self.group.submit(item, |items| self.lead(&items, &mut late));
        if let Some(version) = late {
            self.published.publish(Box::new(Stamp(UnsafeCell::new(version))));
        }
        match answer {
            Some(version) => {
                assert!(version > before, "a version that was seen is not made again");
                assert!(self.version() >= version, "what was acknowledged can be read");
            }
            None => assert!(self.poison.load(Ordering::Relaxed), "a commit that is refused has its reason"),
        }
        answer
    }

    /// What [`try_batch`](crate::commit::lead::try_batch) does, in this order.
    fn lead(&self, items: &[u64], late: &mut Option<u64>) -> Vec<Option<u64>> {
        // Relaxed: the hand-off must order it.
        if self.poison.load(Ordering::Relaxed) {
            return items.iter().map(|_| None).collect();
        }
        let version = self.version() + 1;
        // SAFETY: one leader at a time; loom checks it.
        self.end.with_mut(|end| unsafe {
            assert!(!(*end).is_half_done, "nothing is built on what was left half done");
            (*end).is_half_done = true;
            (*end).records.extend(items);
        });
        if items.contains(&BROKEN) {
            if self.lapse != Lapse::ForgetsPoison {
                self.poison.store(true, Ordering::Relaxed);
            }
            // As a panic would end it.
            return Vec::new();
        }
        // SAFETY: as above.
        self.end.with_mut(|end| unsafe { (*end).is_half_done = false });
        match self.lapse {
            Lapse::AnswersFirst => *late = Some(version),
            _ => self.published.publish(Box::new(Stamp(UnsafeCell::new(version)))),
        }
        items.iter().map(|_| Some(version)).collect()
    }
}

fn commits(items: &'static [u64], lapse: Lapse) -> impl Fn() + Sync + Send + 'static {
    move || {
        let store = Store::new(lapse);
        let others: Vec<_> = items[1..]
            .iter()
            .map(|item| {
                let store = store.clone();
                loom::thread::spawn(move || store.commit(*item))
            })
            .collect();
        let mut answers = vec![store.commit(items[0])];
        answers.extend(others.into_iter().map(|other| other.join().unwrap()));
        // SAFETY: all threads are joined.
        let records = store.end.with(|end| unsafe { (*end).records.clone() });
        for (item, answer) in items.iter().zip(&answers) {
            let count = records.iter().filter(|record| *record == item).count();
            assert!(answer.is_none() || count == 1, "what was acknowledged was written once");
            assert!(*item != BROKEN || answer.is_none());
        }
        assert_eq!(store.version(), answers.into_iter().flatten().max().unwrap_or(0));
    }
}

#[test]
fn an_acknowledged_version_is_published() {
    explore("commits, 2 threads", 4, commits(&[1, 2], Lapse::None));
    explore("commits, 3 threads", 3, commits(&[1, 2, 3], Lapse::None));
    let model = commits(&[1, 2, 3], Lapse::AnswersFirst);
    explore_planted("commits, answered before the publish", 2, None, model);
    let model = commits(&[1, 2], Lapse::None);
    explore_planted("commits, relaxed publish", 3, Some(Planted::RelaxedPublish), model);
}

#[test]
fn nobody_builds_on_what_a_failed_leader_left() {
    explore("a commit that fails, 2 threads", 4, commits(&[BROKEN, 1], Lapse::None));
    explore("a commit that fails, 3 threads", 3, commits(&[1, BROKEN, 2], Lapse::None));
    explore_planted("a commit that fails, no poison", 2, None, commits(&[BROKEN, 1], Lapse::ForgetsPoison));
    let model = commits(&[1, BROKEN, 2], Lapse::None);
    explore_planted("a commit that fails, orphaned followers", 2, Some(Planted::OrphanedFollowers), model);
}
