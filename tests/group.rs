//! Goal: a group snapshot is all members' or no valid one, over crashes too; it is opened, dropped, exported and imported as a
//! unit; and hooks of all members take part.
//!
//! Method: groups over small stores, checked against what was written; power cuts at each I/O call of each member's disk while a
//! group snapshot is made and dropped; exports whose manifest or members are damaged, exchanged, cut or missing.
//! That the moment is the same for all is tested where a bug can be planted: `src/group/tests.rs`.
#![allow(clippy::cast_possible_truncation, reason = "tests count in small numbers")]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{contents, small};
use vellum::{
    Error, Group, GroupSnapshot, HookNeed, HookResult, KeepReason, Naming, PageId, Progress, Quiesce,
    QuiesceHook, Retention, Snapshot, Store, Window, verify_group_export,
};

fn fill(store: &Store, tag: u64) {
    let mut txn = store.begin().unwrap();
    txn.truncate(20).unwrap();
    for id in 0..20 {
        txn.write(PageId(id), &contents(id, tag)).unwrap();
    }
    txn.commit().unwrap();
}

fn holds(snapshot: &Snapshot, tag: u64) {
    let view = snapshot.view();
    for id in 0..20 {
        assert!(view.page(PageId(id)).unwrap() == Some(&contents(id, tag)[..]), "page {id} of {tag}");
    }
}

fn stores(count: u64) -> Vec<Store> {
    let make = |tag| {
        let store = Store::in_memory(small()).unwrap();
        fill(&store, tag);
        store
    };
    (0..count).map(make).collect()
}

/// The group, with its members' tags in its order.
fn group(stores: &[Store]) -> (Group, Vec<u64>) {
    let group = Group::new(&stores.iter().collect::<Vec<_>>()).unwrap();
    let tag = |member: &Store| stores.iter().position(|store| store.id() == member.id()).unwrap() as u64;
    let tags = group.members().iter().map(tag).collect();
    (group, tags)
}

#[test]
fn a_group_snapshot_is_made_opened_listed_and_dropped_as_one() {
    let stores = stores(4);
    let (whole, tags) = group(&stores);
    let naming = Naming::new().label("why", "test");
    let done = whole.create_snapshot_with("a", naming, Quiesce::new()).unwrap();
    assert_eq!(done.snapshots.len(), 4);
    for store in &stores {
        fill(store, 99);
    }
    for (snapshot, tag) in whole.open_snapshot("a").unwrap().iter().zip(&tags) {
        holds(snapshot, *tag);
    }
    let [GroupSnapshot { id, name, members, missing, .. }] = &whole.snapshots()[..] else { panic!() };
    assert!((*id, &**name, members.len(), missing.len()) == (done.id, "a", 4, 0));
    assert!(members[0].1.labels.contains(&("why".to_owned(), "test".to_owned())));
    // A name that any member has is refused for all, and no member is left with a part.
    stores[2].create_snapshot("b").unwrap();
    assert!(matches!(whole.create_snapshot("b"), Err(Error::SnapshotExists { .. })));
    assert!(stores.iter().filter(|store| store.open_snapshot("b").is_ok()).count() == 1);
    assert!(matches!(whole.open_snapshot("b"), Err(Error::SnapshotNotFound { .. })), "it is one store's own");
    assert!(matches!(whole.drop_snapshot("b"), Err(Error::SnapshotNotFound { .. })));
    // A smaller group sees that members are missing, a larger one that it isn't its snapshot.
    let (half, _) = group(&stores[..2]);
    match half.open_snapshot("a") {
        Err(Error::GroupIncomplete { missing, .. }) => assert_eq!(missing.len(), 2),
        other => panic!("{other:?}"),
    }
    let more = [stores.clone(), self::stores(1)].concat();
    assert!(matches!(group(&more).0.open_snapshot("a"), Err(Error::InvalidOption { .. })));
    // Held in one, it stays in all.
    stores[1].hold_snapshot("a", "backup", None).unwrap();
    assert!(matches!(whole.drop_snapshot("a"), Err(Error::SnapshotHeld { .. })));
    assert!(whole.snapshots()[0].is_complete());
    stores[1].release_snapshot("a", "backup").unwrap();
    whole.drop_snapshot("a").unwrap();
    assert!(whole.snapshots().is_empty());
    assert!(matches!(whole.drop_snapshot("a"), Err(Error::SnapshotNotFound { .. })));
    for (snapshot, tag) in done.snapshots.iter().zip(&tags) {
        holds(snapshot, *tag);
    }
}

#[test]
fn wrong_groups_are_refused() {
    let stores = stores(2);
    let twice = Group::new(&[&stores[0], &stores[1], &stores[0].clone()]);
    assert!(matches!(twice, Err(Error::DuplicateMember { store }) if store == stores[0].id()));
    assert!(matches!(Group::new(&[]), Err(Error::InvalidOption { .. })));
    let many: Vec<&Store> = (0..25).map(|_| &stores[0]).collect();
    assert!(matches!(Group::new(&many), Err(Error::InvalidOption { .. })));
    let (whole, _) = group(&stores);
    for name in ["", " a", "a\n"] {
        assert!(matches!(whole.create_snapshot(name), Err(Error::InvalidName { .. })));
    }
    let own = Naming::new().label("vellum-group", "mine");
    assert!(matches!(whole.create_snapshot_with("a", own, Quiesce::new()), Err(Error::InvalidName { .. })));
    // As many as there may be.
    let most = self::stores(24);
    let (most, _) = group(&most);
    most.create_snapshot(&"n".repeat(255)).unwrap();
    assert!(most.snapshots()[0].is_complete());
}

#[test]
fn an_incomplete_group_is_found_and_can_be_dropped() {
    let stores = stores(3);
    let (whole, _) = group(&stores);
    whole.create_snapshot("a").unwrap();
    stores[1].drop_snapshot("a").unwrap();
    let found = &whole.snapshots()[0];
    assert!(!found.is_complete() && found.members.len() == 2);
    assert_eq!(found.missing, [stores[1].id().to_string()[..16].to_owned()]);
    match whole.open_snapshot("a") {
        Err(Error::GroupIncomplete { name, missing }) => assert!(name == "a" && missing == found.missing),
        other => panic!("{other:?}"),
    }
    whole.drop_snapshot("a").unwrap();
    assert!(whole.snapshots().is_empty());
    whole.create_snapshot("a").unwrap();
    whole.open_snapshot("a").unwrap();
}

#[test]
fn hooks_of_all_members_take_part() {
    struct Flush {
        tag: u64,
        log: Arc<Mutex<Vec<String>>>,
        fails: Arc<Mutex<bool>>,
    }
    impl QuiesceHook for Flush {
        fn prepare(&mut self, store: &Store, _: &Window) -> HookResult {
            self.log.lock().unwrap().push(format!("prepare {}", self.tag));
            fill(store, 100 + self.tag);
            Ok(())
        }
        fn freeze(&mut self, _: &Window) -> HookResult {
            self.log.lock().unwrap().push(format!("freeze {}", self.tag));
            if *self.fails.lock().unwrap() { Err("told to fail".into()) } else { Ok(()) }
        }
        fn thaw(&mut self) -> HookResult {
            self.log.lock().unwrap().push(format!("thaw {}", self.tag));
            Ok(())
        }
    }
    let stores = stores(3);
    let (whole, tags) = group(&stores);
    let log = Arc::new(Mutex::new(Vec::new()));
    let fails = Arc::new(Mutex::new(false));
    for (tag, store) in (0..).zip(&stores) {
        let hook = Flush { tag, log: log.clone(), fails: fails.clone() };
        store.add_hook("flush", HookNeed::Essential, hook).unwrap();
    }
    let done = whole.create_snapshot("a").unwrap();
    for (snapshot, tag) in done.snapshots.iter().zip(&tags) {
        holds(snapshot, 100 + tag);
    }
    let said = std::mem::take(&mut *log.lock().unwrap());
    let all = |word: &str| tags.iter().map(|tag| format!("{word} {tag}")).collect::<Vec<_>>();
    let mut thawed = all("thaw");
    thawed.reverse();
    assert_eq!(said, [all("prepare"), all("freeze"), thawed].concat());
    *fails.lock().unwrap() = true;
    let failed = whole.create_snapshot("b").unwrap_err();
    assert!(matches!(failed, Error::HookFailed { .. }), "{failed}");
    assert!(whole.snapshots().len() == 1 && stores.iter().all(|store| store.open_snapshot("b").is_err()));
}

/// Does something to a copy of an export.
type Damage<'a> = &'a dyn Fn(&Path);

/// Copies a directory of files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_exported_group_is_imported_whole_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    let stores = stores(3);
    let (whole, tags) = group(&stores);
    whole.create_snapshot("a").unwrap();
    for store in &stores {
        fill(store, 7);
    }
    for concurrency in [1, 2, 9] {
        let dir = home.path().join(format!("export-{concurrency}"));
        let mut seen = 0;
        let mut observer = |progress: Progress| {
            seen = progress.pages_done;
            assert_eq!(progress.pages_total, Some(60));
            ControlFlow::Continue(())
        };
        let summary = whole.export("a", &dir, concurrency, &mut observer).unwrap();
        assert_eq!(seen, 60);
        assert_eq!(verify_group_export(&dir, concurrency, &mut ()).unwrap(), summary);
        let to = home.path().join(format!("import-{concurrency}"));
        let imported = Group::import(&dir, &to, small(), concurrency, &mut ()).unwrap();
        for (store, tag) in imported.iter().zip(&tags) {
            holds(&store.snapshot(), *tag);
            store.verify(&mut ()).unwrap();
        }
        assert!(matches!(whole.export("a", &dir, 1, &mut ()), Err(Error::AlreadyExists { .. })));
        assert!(matches!(Group::import(&dir, &to, small(), 1, &mut ()), Err(Error::AlreadyExists { .. })));
    }
    let dir = home.path().join("export-1");
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(
            fs::read(dir.join(&name)).unwrap(),
            fs::read(home.path().join("export-9").join(&name)).unwrap()
        );
    }
    let damages: [(&str, Damage<'_>); 7] = [
        ("manifest gone", &|dir| fs::remove_file(dir.join("group.vellum")).unwrap()),
        ("member gone", &|dir| fs::remove_file(dir.join("member-01.vellum")).unwrap()),
        ("members exchanged", &|dir| {
            fs::rename(dir.join("member-00.vellum"), dir.join("x")).unwrap();
            fs::rename(dir.join("member-01.vellum"), dir.join("member-00.vellum")).unwrap();
            fs::rename(dir.join("x"), dir.join("member-01.vellum")).unwrap();
        }),
        ("member of another export", &|dir| {
            stores[0]
                .snapshot()
                .export(&mut fs::File::create(dir.join("member-02.vellum")).unwrap())
                .unwrap();
        }),
        ("member cut", &|dir| {
            let path = dir.join("member-02.vellum");
            let len = fs::metadata(&path).unwrap().len();
            fs::File::options().write(true).open(path).unwrap().set_len(len - 9).unwrap();
        }),
        ("manifest cut", &|dir| {
            fs::File::options().write(true).open(dir.join("group.vellum")).unwrap().set_len(40).unwrap();
        }),
        ("manifest flipped", &|dir| {
            let mut bytes = fs::read(dir.join("group.vellum")).unwrap();
            bytes[50] ^= 4;
            fs::write(dir.join("group.vellum"), bytes).unwrap();
        }),
    ];
    for (index, (what, damage)) in damages.iter().enumerate() {
        let damaged = home.path().join(format!("damaged-{index}"));
        copy(&dir, &damaged);
        damage(&damaged);
        for concurrency in [1, 3] {
            let verified = verify_group_export(&damaged, concurrency, &mut ());
            assert!(matches!(verified, Err(Error::Corrupt { .. })), "{what}: {verified:?}");
            let imported = Group::import(&damaged, home.path().join("none"), small(), concurrency, &mut ());
            assert!(matches!(imported, Err(Error::Corrupt { .. })), "{what}");
            assert!(!home.path().join("none").exists(), "{what}");
        }
    }
    let stopped = whole.export("a", home.path().join("none"), 2, &mut |_: Progress| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Cancelled)) && !home.path().join("none").exists());
    let left = fs::read_dir(home.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0, "nothing is left of what failed");
}

#[test]
fn no_policy_takes_one_of_a_group() {
    let stores = stores(2);
    let (whole, _) = group(&stores);
    let soon = std::time::SystemTime::now() + std::time::Duration::from_mins(1);
    whole.create_snapshot("a").unwrap();
    whole.create_snapshot_with("b", Naming::new().expires_at(soon), Quiesce::new()).unwrap();
    stores[0].create_snapshot("own").unwrap();
    stores[0].create_snapshot("newest").unwrap();
    let policy = Retention::new().keep_last(1);
    let names = |store: &Store| -> Vec<String> {
        store.snapshots().into_iter().map(|snapshot| snapshot.name).collect()
    };
    let plan = stores[0].plan_retention(&policy, std::time::SystemTime::now()).unwrap();
    assert!(
        matches!(plan.decisions[0].reasons[..], [KeepReason::InGroup { .. }]),
        "{:?}",
        plan.decisions[0].reasons
    );
    stores[0].prune(&policy, std::time::SystemTime::now()).unwrap();
    assert_eq!(names(&stores[0]), ["a", "b", "newest"]);
    assert!(whole.snapshots().iter().all(GroupSnapshot::is_complete));
    // The expiry is the same in all members, so what has expired goes as a whole.
    for store in &stores {
        store.prune(&policy, soon).unwrap();
    }
    assert_eq!((names(&stores[0]), names(&stores[1])), (vec!["a".into(), "newest".into()], vec!["a".into()]));
}

#[cfg(feature = "sim")]
mod crash {
    use super::*;
    use crate::common::PAGE;
    use vellum::storage::sim::{Fault, SimDisk, Survival};
    use vellum::{Durability, Result};

    const STORES: usize = 3;

    /// What was acknowledged: the snapshot of that name is there, or it is gone.
    type Acked = Vec<(String, bool)>;

    fn open(disks: &[SimDisk]) -> Result<Vec<Store>> {
        disks.iter().map(|disk| Store::open_on(Arc::new(disk.storage()), small())).collect()
    }

    /// The first page of each store tells of the last transfer, which is a commit to the first store, then to the second, and so on.
    fn transfer(stores: &[Store], tag: u8) -> Result<()> {
        stores.iter().try_for_each(|store| {
            let mut txn = store.begin()?;
            txn.truncate(1)?;
            txn.write(PageId(0), &[tag; PAGE])?;
            txn.commit_with(Durability::Buffered).map(drop)
        })
    }

    fn work(stores: &[Store], acked: &mut Acked) -> Result<()> {
        let group = Group::new(&stores.iter().collect::<Vec<_>>())?;
        for tag in 2..5 {
            transfer(stores, tag)?;
            group.create_snapshot(&format!("{tag}"))?;
            acked.push((format!("{tag}"), true));
            transfer(stores, tag + 100)?;
        }
        group.drop_snapshot("3")?;
        acked.push(("3".to_owned(), false));
        stores[0].sync()
    }

    fn fresh() -> Vec<SimDisk> {
        let disks: Vec<SimDisk> = (0..STORES as u64).map(SimDisk::new).collect();
        let stores = open(&disks).unwrap();
        transfer(&stores, 1).unwrap();
        for store in &stores {
            store.sync().unwrap();
        }
        drop(stores);
        disks
    }

    /// Opens what the power cut has left; how many group snapshots are complete, and how many are not.
    fn check(disks: &[SimDisk], acked: &Acked, has_failed: bool, context: &str) -> (u64, u64) {
        let stores = open(disks).unwrap();
        let group = Group::new(&stores.iter().collect::<Vec<_>>()).unwrap();
        let (mut complete, mut incomplete) = (0, 0);
        let found = group.snapshots();
        for snapshot in &found {
            let opened = group.open_snapshot(&snapshot.name);
            if !snapshot.is_complete() {
                assert!(matches!(opened, Err(Error::GroupIncomplete { .. })), "{context}");
                incomplete += 1;
                continue;
            }
            let tag: u8 = snapshot.name.parse().unwrap();
            for member in opened.unwrap() {
                assert_eq!(member.view().page(PageId(0)).unwrap(), Some(&[tag; PAGE][..]), "{context}");
            }
            complete += 1;
        }
        // The last word that was acknowledged of each name holds, unless a later one was under way.
        for (name, is_there) in acked {
            let is_last = acked.iter().rev().find(|(other, _)| other == name).unwrap().1 == *is_there;
            let is_dropping = name == "3" && has_failed && acked.len() == 3;
            if is_last && !is_dropping {
                let is_complete =
                    found.iter().any(|snapshot| snapshot.name == *name && snapshot.is_complete());
                assert_eq!(is_complete, *is_there, "{context}: {name}, {acked:?}, {found:?}");
            }
        }
        for snapshot in &found {
            group.drop_snapshot(&snapshot.name).unwrap();
        }
        assert!(group.snapshots().is_empty(), "{context}");
        for store in &stores {
            store.audit().unwrap();
        }
        (complete, incomplete)
    }

    #[test]
    fn whatever_a_crash_leaves_of_a_group_is_whole_or_says_that_it_is_not() {
        let rehearsal = fresh();
        let before: Vec<u64> = rehearsal.iter().map(SimDisk::io_count).collect();
        work(&open(&rehearsal).unwrap(), &mut Acked::new()).unwrap();
        let (mut complete, mut incomplete, mut told) = (0, 0, 0);
        for member in 0..STORES {
            for index in before[member]..rehearsal[member].io_count() {
                for fault in [Fault::Crash, Fault::SyncFails, Fault::ENOSPC] {
                    let (disks, mut acked) = (fresh(), Acked::new());
                    disks[member].fail_at(index, fault);
                    let done = open(&disks).and_then(|stores| work(&stores, &mut acked));
                    told += u64::from(done.is_err());
                    // The power fails for all of them.
                    for survival in [Survival::Nothing, Survival::Everything, Survival::Scattered] {
                        let after: Vec<SimDisk> =
                            disks.iter().map(|disk| disk.power_cut_with(survival, index)).collect();
                        let context = format!("member {member}, call {index}, {fault:?}, {survival:?}");
                        let found = check(&after, &acked, done.is_err(), &context);
                        (complete, incomplete) = (complete + found.0, incomplete + found.1);
                    }
                }
            }
        }
        println!("{complete} found complete, {incomplete} incomplete, {told} faults told");
        assert!(complete > 0 && incomplete > 0);
    }
}
