//! Too much memory waits for views: a commit waits until they are gone, helps grace periods to their end, and goes on.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};

use super::{Bug, Core, explore, explore_planted, spawn_view};
use crate::commit::lead::wait_until_within;
use crate::error::Error;
use crate::sync::Planted;

fn a_commit_that_waits_beside_a_view(bug: Bug) -> impl Fn() + Sync + Send + 'static {
    move || {
        let core = Core::new();
        let reader = spawn_view(&core);
        let old = core.current();
        core.published.publish(super::Payload::new());
        let ticket = core.grace.issue(&core.epoch.pin());
        let limbo = AtomicU64::new(1);
        let pass = || {
            if limbo.load(Ordering::Relaxed) > 0 && (bug == Bug::NoGrace || core.grace.passed() >= ticket) {
                // SAFETY: the memory lives until the model ends; whether it may end is what is tested.
                unsafe { old.as_ref() }.end();
                limbo.store(0, Ordering::Relaxed);
            }
        };
        let waited = wait_until_within(&core.grace, &core.epoch, 0, || limbo.load(Ordering::Relaxed), pass);
        assert!(waited.is_ok(), "every view ends, so the wait does");
        assert_eq!(limbo.load(Ordering::Relaxed), 0);
        reader.join().unwrap();
    }
}

#[test]
fn a_commit_that_waits_for_views_goes_on_when_they_are_gone() {
    explore("limbo beside a view", 2, a_commit_that_waits_beside_a_view(Bug::None));
    let model = a_commit_that_waits_beside_a_view(Bug::NoGrace);
    explore_planted("limbo beside a view, no grace", 2, None, model);
    let model = a_commit_that_waits_beside_a_view(Bug::None);
    explore_planted("limbo beside a view, idle wait", 2, Some(Planted::IdleWait), model);
}

#[test]
fn a_commit_under_a_view_of_its_own_thread_does_not_wait_for_it() {
    explore("limbo under a view", 2, || {
        let core: Arc<Core> = Core::new();
        let guard = core.epoch.pin();
        let ticket = core.grace.issue(&core.epoch.pin());
        let limbo = || u64::from(core.grace.passed() < ticket);
        let refused = wait_until_within(&core.grace, &core.epoch, 0, limbo, || ());
        assert!(matches!(refused, Err(Error::LimboFull { limbo: 1, limit: 0 })));
        drop(guard);
        assert!(wait_until_within(&core.grace, &core.epoch, 0, limbo, || ()).is_ok());
    });
}
