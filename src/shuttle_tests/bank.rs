//! A store in memory under eight threads: transfers between accounts, views, snapshots and their clones, names, and a reclaimer that
//! frees, packs and writes checkpoints all the while. Every version that anybody sees adds up to the same sum, and stays what it was
//! for as long as it is seen.

use shuttle::rand::Rng;
use shuttle::sync::Arc;
use shuttle::thread;

use super::{explore, explore_planted};
use crate::sync::Planted;
use crate::{Budget, Durability, Error, Options, PageId, Snapshot, Store, View};

const PAGE: usize = 512;
const ACCOUNTS: u64 = 6;
/// Pages between two accounts: neighbours lie in different leaves of the table.
const SPREAD: u64 = 67;
const EACH: u64 = 100;

fn page_of(account: u64) -> PageId {
    PageId(account * SPREAD)
}

/// A page that holds a balance, and all of which tells it.
fn encode(balance: u64, stamp: u64) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    for (n, word) in page.chunks_exact_mut(8).enumerate() {
        let value = match n {
            0 => balance,
            1 => stamp,
            _ => (balance ^ stamp.rotate_left(32)).wrapping_mul(n as u64),
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
    page
}

fn decode(page: &[u8]) -> u64 {
    let word = |n: usize| u64::from_le_bytes(page[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
    assert!(encode(word(0), word(1)) == page, "a page that nobody wrote");
    word(0)
}

fn balances(view: &View<'_>) -> Vec<u64> {
    let found: Vec<u64> = (0..ACCOUNTS)
        .map(|account| {
            let page = view.page(page_of(account)).expect("the store is sound").expect("it has an account");
            let balance = decode(page);
            // Others may run while the engine looks at the page.
            thread::yield_now();
            assert_eq!(decode(page), balance, "a page stays while it is seen");
            balance
        })
        .collect();
    assert_eq!(found.iter().sum::<u64>(), ACCOUNTS * EACH, "a version is whole");
    found
}

fn open() -> Store {
    let options =
        Options::new().page_size(512).segment_size(64 << 10).background(false).limbo_bytes(64 << 10);
    let store = Store::in_memory(options).expect("memory");
    let mut txn = store.begin().expect("an open store");
    txn.truncate(ACCOUNTS * SPREAD).expect("few pages");
    for account in 0..ACCOUNTS {
        txn.write(page_of(account), &encode(EACH, account)).expect("room");
    }
    txn.commit().expect("memory");
    store
}

/// Moves something from one account to another, unless another transaction is first.
fn transfer(store: &Store) {
    let mut random = shuttle::rand::thread_rng();
    let (from, to) = (random.gen_range(0..ACCOUNTS), random.gen_range(0..ACCOUNTS));
    if from == to {
        return;
    }
    let durability = if random.gen_bool(0.5) { Durability::Sync } else { Durability::Buffered };
    let mut txn = store.begin().expect("an open store");
    let mut page = [0; PAGE];
    let mut read = |txn: &crate::WriteTxn, account| {
        assert!(txn.read(page_of(account), &mut page).expect("the store is sound"));
        decode(&page)
    };
    let (left, right) = (read(&txn, from), read(&txn, to));
    let amount = random.gen_range(0..=left);
    txn.write(page_of(from), &encode(left - amount, random.r#gen())).expect("room");
    txn.write(page_of(to), &encode(right + amount, random.r#gen())).expect("room");
    match txn.commit_with(durability) {
        Ok(version) => assert!(store.version() >= version, "what was committed can be read"),
        Err(Error::Conflict { .. } | Error::LimboFull { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn look_twice(snapshot: Snapshot) {
    let before = balances(&snapshot.view());
    let copy = snapshot.clone();
    thread::yield_now();
    drop(snapshot);
    assert_eq!(balances(&copy.view()), before, "a snapshot stays what it is");
    let other = thread::spawn(move || drop(copy));
    other.join().expect("a drop doesn't fail");
}

fn spawn(store: &Arc<Store>, times: usize, step: fn(&Store)) -> thread::JoinHandle<()> {
    let store = store.clone();
    thread::spawn(move || (0..times).for_each(|_| step(&store)))
}

fn eight_threads() {
    let store = Arc::new(open());
    let threads = [
        spawn(&store, 4, transfer),
        spawn(&store, 4, transfer),
        spawn(&store, 4, transfer),
        spawn(&store, 3, |store| drop(balances(&store.view()))),
        spawn(&store, 3, |store| drop(balances(&store.view()))),
        spawn(&store, 2, |store| look_twice(store.snapshot())),
        spawn(&store, 2, |store| look_twice(store.snapshot())),
        spawn(&store, 2, |store| assert!(store.maintain(Budget::unlimited()).is_ok())),
    ];
    for thread in threads {
        thread.join().expect("no thread fails");
    }
    balances(&store.view());
    // Its drop counts the nodes that were never freed (invariant 5).
    drop(store);
}

#[test]
fn a_store_under_eight_threads_keeps_every_version_whole() {
    explore("store, 8 threads", eight_threads);
    for (name, bug) in [
        ("store, 8 threads, no grace", Planted::NoGrace),
        ("store, 8 threads, an item counts as seen by its successor", Planted::DeathSeen),
        ("store, 8 threads, judged by versions before its birth", Planted::ForgottenBirth),
        ("store, 8 threads, judged by the newest version", Planted::NewestNeighbour),
    ] {
        explore_planted(name, bug, eight_threads);
    }
}
