//! Goal: a quiesced snapshot holds what the application had in memory, and whatever a hook does, the application is let go on and
//! the store isn't held up.
//!
//! Method: hooks that note each call, and that fail, panic or hang where they are told to; hanging ones hang until the test lets
//! them go, so nothing depends on how fast anything is. The notes are held against the rules: `thaw` once after each
//! `freeze`, `abort` exactly where no snapshot counts on the hook, `freeze` in order and `thaw` in the reverse one.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::interposed::{Interposed, Interposer};
use common::{PAGE, Random, env, seed, small};
use vellum::storage::{MemoryStorage, StorageFile};
use vellum::{
    AbortCause, Error, HookCause, HookNeed, HookPhase, HookResult, Naming, PageId, Quiesce, QuiesceHook,
    Store, Window,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Well,
    Fails,
    Panics,
    Hangs,
}

/// A door that hooks hang at.
#[derive(Clone, Debug, Default)]
struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    fn pass(&self) {
        let (is_open, opened) = &*self.0;
        drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

type Log = Arc<Mutex<Vec<(&'static str, &'static str)>>>;

/// Notes every call, and does as it is told in one phase.
struct Noting {
    name: &'static str,
    log: Log,
    act: Arc<Mutex<(HookPhase, Act)>>,
    door: Door,
    aborted: Sender<AbortCause>,
}

impl Noting {
    fn act(&self, phase: HookPhase, word: &'static str) -> HookResult {
        self.log.lock().unwrap().push((self.name, word));
        let (at, act) = *self.act.lock().unwrap();
        match act {
            Act::Fails if at == phase => Err("told to fail".into()),
            Act::Panics if at == phase => std::panic::panic_any("told to panic"),
            Act::Hangs if at == phase => {
                self.door.pass();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl QuiesceHook for Noting {
    fn prepare(&mut self, _: &Store, _: &Window) -> HookResult {
        self.act(HookPhase::Prepare, "prepare")
    }

    fn freeze(&mut self, _: &Window) -> HookResult {
        self.act(HookPhase::Freeze, "freeze")
    }

    fn thaw(&mut self) -> HookResult {
        self.act(HookPhase::Thaw, "thaw")
    }

    fn abort(&mut self, cause: AbortCause) {
        let _ = self.act(HookPhase::Abort, "abort");
        let _ = self.aborted.send(cause);
    }
}

/// A hook as the test knows it.
struct Told {
    act: Arc<Mutex<(HookPhase, Act)>>,
    door: Door,
    aborted: Receiver<AbortCause>,
}

fn add(store: &Store, log: &Log, name: &'static str, need: HookNeed, phase: HookPhase, act: Act) -> Told {
    let (sender, aborted) = channel();
    let act = Arc::new(Mutex::new((phase, act)));
    let door = Door::default();
    let hook = Noting { name, log: log.clone(), act: act.clone(), door: door.clone(), aborted: sender };
    store.add_hook(name, need, hook).unwrap();
    Told { act, door, aborted }
}

fn store() -> Store {
    let store = Store::in_memory(small()).unwrap();
    let mut txn = store.begin().unwrap();
    txn.truncate(4).unwrap();
    txn.write(PageId(0), &[1; PAGE]).unwrap();
    txn.commit().unwrap();
    store
}

/// So short that hanging costs the test little, and so long that what doesn't hang is in time.
fn quick() -> Quiesce {
    let time = Duration::from_millis(env("VELLUM_DEADLINE_MS", 400));
    Quiesce::new().deadline(time).prepare_deadline(time)
}

fn words(log: &Log) -> Vec<(&'static str, &'static str)> {
    std::mem::take(&mut *log.lock().unwrap())
}

/// Waits until no hook is running.
fn settle(store: &Store) {
    while store.hook_infos().iter().any(|hook| hook.is_running) {
        std::thread::yield_now();
    }
}

#[test]
fn what_the_application_holds_is_in_the_snapshot() {
    struct Flushing {
        unwritten: Arc<Mutex<Option<u8>>>,
        gate: Arc<Mutex<bool>>,
    }
    impl QuiesceHook for Flushing {
        fn prepare(&mut self, store: &Store, _: &Window) -> HookResult {
            if let Some(byte) = self.unwritten.lock().unwrap().take() {
                let mut txn = store.begin()?;
                txn.write(PageId(3), &[byte; PAGE])?;
                txn.commit()?;
            }
            Ok(())
        }
        fn freeze(&mut self, _: &Window) -> HookResult {
            *self.gate.lock().unwrap() = true;
            Ok(())
        }
        fn thaw(&mut self) -> HookResult {
            *self.gate.lock().unwrap() = false;
            Ok(())
        }
    }
    let store = store();
    let (unwritten, gate) = (Arc::new(Mutex::new(Some(9))), Arc::new(Mutex::new(false)));
    let hook = Flushing { unwritten: unwritten.clone(), gate: gate.clone() };
    store.add_hook("cache", HookNeed::Essential, hook).unwrap();
    let done =
        store.create_snapshot_quiesced("a", Naming::new().label("why", "test"), Quiesce::new()).unwrap();
    assert_eq!(done.snapshot.view().page(PageId(3)).unwrap(), Some(&[9; PAGE][..]));
    assert!(done.failures.is_empty() && !*gate.lock().unwrap());
    assert_eq!(store.snapshots()[0].labels, [("why".to_owned(), "test".to_owned())]);
    // A plain snapshot asks nobody.
    *unwritten.lock().unwrap() = Some(5);
    let plain = store.create_snapshot("b").unwrap();
    assert_eq!(plain.view().page(PageId(3)).unwrap(), Some(&[9; PAGE][..]));
}

#[test]
fn hooks_freeze_in_order_and_thaw_in_the_reverse_one() {
    let (store, log) = (store(), Log::default());
    for name in ["a", "b", "c"] {
        add(&store, &log, name, HookNeed::Essential, HookPhase::Thaw, Act::Well);
    }
    store.create_snapshot_quiesced("s", Naming::new(), quick()).unwrap();
    let prepared = [("a", "prepare"), ("b", "prepare"), ("c", "prepare")];
    let frozen = [("a", "freeze"), ("b", "freeze"), ("c", "freeze")];
    let thawed = [("c", "thaw"), ("b", "thaw"), ("a", "thaw")];
    assert_eq!(words(&log), [prepared, frozen, thawed].concat());
    // What is refused at once stops nobody.
    let taken = store.create_snapshot_quiesced("s", Naming::new(), quick()).unwrap_err();
    assert!(matches!(taken, Error::SnapshotExists { .. }), "{taken}");
    assert!(words(&log).is_empty());
    let names: Vec<String> = store.hook_infos().into_iter().map(|hook| hook.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    store.remove_hook("b").unwrap();
    assert!(matches!(store.remove_hook("b"), Err(Error::HookNotFound { .. })));
    let (sender, _aborted) = channel();
    let again = Noting {
        name: "a",
        log: log.clone(),
        act: Arc::new(Mutex::new((HookPhase::Thaw, Act::Well))),
        door: Door::default(),
        aborted: sender,
    };
    assert!(matches!(store.add_hook("a", HookNeed::Optional, again), Err(Error::HookExists { .. })));
    store.create_snapshot_quiesced("t", Naming::new(), quick()).unwrap();
    assert_eq!(words(&log).len(), 6);
}

#[test]
fn hooks_that_fail_panic_or_hang_stop_nobody() {
    let _quiet = Quiet::new();
    for need in [HookNeed::Essential, HookNeed::Optional] {
        for phase in [HookPhase::Prepare, HookPhase::Freeze, HookPhase::Thaw] {
            for act in [Act::Fails, Act::Panics, Act::Hangs] {
                let context = format!("{need:?} {phase} {act:?}");
                let (store, log) = (store(), Log::default());
                let first = add(&store, &log, "first", HookNeed::Essential, phase, Act::Well);
                let bad = add(&store, &log, "bad", need, phase, act);
                let last = add(&store, &log, "last", HookNeed::Essential, phase, Act::Well);
                let done = store.create_snapshot_quiesced("s", Naming::new(), quick());
                let is_told = |cause: &HookCause| match act {
                    Act::Fails => {
                        matches!(cause, HookCause::Failed(error) if error.to_string() == "told to fail")
                    }
                    Act::Panics => {
                        matches!(cause, HookCause::Panicked(message) if message == "told to panic")
                    }
                    _ => matches!(cause, HookCause::TimedOut),
                };
                let is_fatal = need == HookNeed::Essential && phase != HookPhase::Thaw;
                match &done {
                    Err(Error::HookFailed { hook, phase: at, cause }) if is_fatal => {
                        assert!(hook == "bad" && *at == phase && is_told(cause), "{context}: {done:?}");
                        assert!(store.snapshots().is_empty(), "{context}");
                    }
                    Ok(done) if !is_fatal => {
                        let [failure] = &done.failures[..] else { panic!("{context}: {done:?}") };
                        assert!(failure.hook == "bad" && failure.phase == phase, "{context}: {failure:?}");
                        assert!(is_told(&failure.cause), "{context}: {failure:?}");
                        assert_eq!(store.snapshots().len(), 1, "{context}");
                    }
                    _ => panic!("{context}: {done:?}"),
                }
                let infos = store.hook_infos();
                assert_eq!(
                    infos[1].last_failure.as_ref().map(|failure| failure.phase),
                    Some(phase),
                    "{context}"
                );
                assert_eq!(infos[1].is_running, act == Act::Hangs, "{context}");
                if act == Act::Hangs {
                    // The others were let go on all the same; the hook itself is not called again before it is back.
                    let said = words(&log);
                    check_rules(&said, "first", !is_fatal, &context);
                    check_rules(&said, "last", !is_fatal, &context);
                    let next = store.create_snapshot_quiesced("next", Naming::new(), quick());
                    match next {
                        Err(Error::HookFailed { cause: HookCause::StillRunning, .. }) => {
                            assert_eq!(need, HookNeed::Essential, "{context}");
                        }
                        Ok(next) => {
                            assert!(
                                matches!(next.failures[0].cause, HookCause::StillRunning)
                                    && need == HookNeed::Optional,
                                "{context}"
                            );
                        }
                        other => panic!("{context}: {other:?}"),
                    }
                    log.lock().unwrap().retain(|(name, _)| *name == "bad");
                    log.lock().unwrap().splice(0..0, said.into_iter().filter(|(name, _)| *name == "bad"));
                    bad.door.open();
                    settle(&store);
                    check_rules(&words(&log), "bad", phase == HookPhase::Thaw, &context);
                    if phase != HookPhase::Thaw {
                        assert_eq!(bad.aborted.recv().unwrap(), AbortCause::Late, "{context}");
                    }
                } else {
                    let said = words(&log);
                    check_rules(&said, "first", !is_fatal, &context);
                    check_rules(&said, "last", !is_fatal, &context);
                    check_rules(&said, "bad", phase == HookPhase::Thaw, &context);
                    if phase != HookPhase::Thaw {
                        assert_eq!(bad.aborted.recv().unwrap(), AbortCause::Failed, "{context}");
                    }
                }
                *bad.act.lock().unwrap() = (phase, Act::Well);
                let after = store.create_snapshot_quiesced("after", Naming::new(), quick());
                assert!(after.unwrap().failures.is_empty(), "{context}");
                assert!(store.hook_infos().iter().all(|hook| hook.last_failure.is_none()), "{context}");
                drop((first, last));
            }
        }
    }
}

/// The rules that hold for every hook, whatever it or others do.
fn check_rules(said: &[(&'static str, &'static str)], name: &str, is_taken: bool, context: &str) {
    let own: Vec<&str> = said.iter().filter(|(hook, _)| *hook == name).map(|(_, word)| *word).collect();
    let count = |word: &str| own.iter().filter(|said| **said == word).count();
    let context = format!("{context}, {name}: {own:?}");
    assert_eq!(count("freeze"), count("thaw"), "{context}");
    assert!(count("prepare") <= 1 && count("freeze") <= count("prepare"), "{context}");
    let is_aborted = count("prepare") == 1 && !is_taken;
    assert_eq!(count("abort"), usize::from(is_aborted), "{context}");
    let mut sorted = own.clone();
    sorted.sort_by_key(|word| ["prepare", "freeze", "thaw", "abort"].iter().position(|known| known == word));
    assert_eq!(own, sorted, "{context}");
}

/// Keeps planted panics out of the output.
struct Quiet;

impl Quiet {
    fn new() -> Quiet {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_planted =
                info.payload().downcast_ref::<&str>().is_some_and(|text| *text == "told to panic");
            if !is_planted {
                told(info);
            }
        }));
        Quiet
    }
}

#[test]
fn any_mixture_of_bad_hooks_keeps_the_rules() {
    let _quiet = Quiet::new();
    let seed = seed("quiesce");
    for round in 0..env("VELLUM_CASES", 60) {
        let mut random = Random(seed ^ round);
        let (store, log) = (store(), Log::default());
        let names = ["a", "b", "c", "d", "e"];
        let count = 1 + random.index(5);
        let mut told = Vec::new();
        for name in &names[..count] {
            let need = [HookNeed::Essential, HookNeed::Optional][random.index(2)];
            let phase =
                [HookPhase::Prepare, HookPhase::Freeze, HookPhase::Thaw, HookPhase::Abort][random.index(4)];
            let act = [Act::Well, Act::Well, Act::Fails, Act::Panics][random.index(4)];
            told.push(((need, phase, act), add(&store, &log, name, need, phase, act)));
        }
        let done = store.create_snapshot_quiesced("s", Naming::new(), Quiesce::new());
        let is_bad = |(need, phase, act): (HookNeed, HookPhase, Act)| {
            let counts = matches!(phase, HookPhase::Prepare | HookPhase::Freeze);
            (need, counts && act != Act::Well)
        };
        let is_fatal = told.iter().any(|(plan, _)| is_bad(*plan) == (HookNeed::Essential, true));
        assert_eq!(done.is_err(), is_fatal, "VELLUM_SEED={seed} round {round}: {done:?}");
        assert_eq!(store.snapshots().len(), usize::from(!is_fatal));
        let said = words(&log);
        for (name, (plan, _)) in names.iter().zip(&told) {
            let is_taken = !is_fatal && !is_bad(*plan).1;
            check_rules(&said, name, is_taken, &format!("VELLUM_SEED={seed} round {round}: {plan:?}"));
        }
    }
}

#[test]
fn two_snapshots_take_turns() {
    let (store, log) = (store(), Log::default());
    let _told = add(&store, &log, "a", HookNeed::Essential, HookPhase::Thaw, Act::Well);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..5 {
                    let name = format!("{thread}-{round}");
                    store.create_snapshot_quiesced(&name, Naming::new(), Quiesce::new()).unwrap();
                }
            });
        }
    });
    assert_eq!(store.snapshots().len(), 20);
    let said: Vec<&str> = words(&log).into_iter().map(|(_, word)| word).collect();
    assert!(said.chunks(3).all(|run| run == ["prepare", "freeze", "thaw"]), "{said:?}");
}

#[test]
fn a_store_that_hangs_does_not_keep_the_application_frozen() {
    let storage = Interposed::before(MemoryStorage::new(), Hanging::default());
    let door = Door::default();
    let store = Store::open_on(storage.clone(), small()).unwrap();
    let log = Log::default();
    let told = add(&store, &log, "a", HookNeed::Essential, HookPhase::Thaw, Act::Well);
    *storage.interposer.0.lock().unwrap() = Some(door.clone());
    let done = std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| store.create_snapshot_quiesced("s", Naming::new(), quick()));
        // The commit hangs in its sync; the hook thaws by itself, and is told that it was too late.
        assert_eq!(told.aborted.recv().unwrap(), AbortCause::Late);
        assert_eq!(
            words(&log).into_iter().map(|(_, word)| word).collect::<Vec<_>>(),
            ["prepare", "freeze", "thaw", "abort"]
        );
        assert!(!snapshot.is_finished());
        door.open();
        snapshot.join().unwrap()
    });
    assert!(matches!(done, Err(Error::QuiesceLate { .. })), "{done:?}");
    assert!(store.snapshots().is_empty(), "what came too late is dropped");
}

/// Makes the syncs of a storage hang, if it has a door.
#[derive(Debug, Default)]
struct Hanging(Mutex<Option<Door>>);

impl Interposer for Hanging {
    fn sync(&self, file: &dyn StorageFile) -> io::Result<()> {
        let door = self.0.lock().unwrap().clone();
        if let Some(door) = door {
            door.pass();
        }
        file.sync()
    }
}
