//! What the children have told, and whether what a later one finds agrees with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use vellum::Store;

use crate::child::{WRITERS, commits_in, options};

/// What is known of a named snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    /// Somebody began to create or to drop it: it may be there or not.
    InDoubt,
    Kept,
    Gone,
}

#[derive(Default)]
pub(crate) struct Ledger {
    /// Whether an opening may fail, because the machine is made to.
    pub(crate) may_not_open: bool,
    /// Per writer: the commits that were told since the last opening, with their versions.
    told: [BTreeMap<u64, u64>; WRITERS],
    /// Per writer: what the last opening found.
    base: [u64; WRITERS],
    /// The newest version that was told to be durable.
    durable: u64,
    /// Names, with the number of the first writer's commits in each.
    names: BTreeMap<String, (Name, u64)>,
    openings: u64,
    pub(crate) synced: u64,
    buffered: u64,
    lost: u64,
    pub(crate) named: u64,
}

impl Ledger {
    /// Takes a line of a child's into account.
    pub(crate) fn take(&mut self, line: &str, context: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words[0] {
            "ack" => {
                let (writer, n, version) = (number(1), number(2), number(3));
                self.told[usize::try_from(writer).expect("few")].insert(n, version);
                if words[4] == "synced" {
                    self.durable = self.durable.max(version);
                    self.synced += 1;
                } else {
                    self.buffered += 1;
                }
            }
            "naming" => drop(self.names.insert(words[1].to_owned(), (Name::InDoubt, number(2)))),
            "named" => {
                self.named += 1;
                self.names.insert(words[1].to_owned(), (Name::Kept, number(2)));
            }
            "dropping" => self.names.get_mut(words[1]).expect("it was there").0 = Name::InDoubt,
            "dropped" => self.names.get_mut(words[1]).expect("it was there").0 = Name::Gone,
            "open" => {
                let found: Vec<u64> = (2..2 + WRITERS).map(number).collect();
                let names = words[2 + WRITERS..].iter().copied();
                self.found(number(1), &found, &names.collect(), context);
            }
            "unopened" if self.may_not_open => {}
            "unopened" | "wrong" => panic!("{context}: {line}"),
            _ => {}
        }
    }

    /// What an opening finds: all that was durable, a prefix of what was told, and nothing that nobody did.
    fn found(&mut self, version: u64, found: &[u64], names: &BTreeSet<&str>, context: &str) {
        assert!(version >= self.durable, "{context}: {} was durable, {version} was found", self.durable);
        for (writer, n) in found.iter().enumerate() {
            let told = &self.told[writer];
            let last_in = told.iter().filter(|(_, told)| **told <= version).map(|(n, _)| *n).max();
            let least = last_in.unwrap_or(self.base[writer]);
            // One more may have been committed and not been told.
            let most = told.last_key_value().map_or(self.base[writer], |(n, _)| *n) + 1;
            assert!(
                (least..=most).contains(n),
                "{context}: version {version} holds {n} commits of writer {writer}, not {least} to {most}"
            );
            assert!(
                told.get(n).is_none_or(|told| *told <= version),
                "{context}: version {version} holds commit {n} of writer {writer}, which is of {:?}",
                told.get(n)
            );
            self.lost += told.range(n + 1..).count() as u64;
        }
        for (name, (state, _)) in &self.names {
            match state {
                Name::Kept => assert!(names.contains(&name[..]), "{context}: {name} is gone"),
                Name::Gone => assert!(!names.contains(&name[..]), "{context}: {name} is back"),
                Name::InDoubt => {}
            }
        }
        for name in names {
            assert!(self.names.contains_key(*name), "{context}: nobody named {name}");
        }
        self.names.retain(|name, _| names.contains(&name[..]));
        self.names.values_mut().for_each(|(state, _)| *state = Name::Kept);
        self.told = Default::default();
        self.base.copy_from_slice(found);
        self.durable = version;
        self.openings += 1;
    }

    /// Opens the store in this process, and looks at all of it.
    pub(crate) fn check_whole(&mut self, dir: &Path, context: &str) {
        let store = Store::open(dir, options().background(false))
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        let snapshot = store.snapshot();
        let read = |writer: usize| {
            commits_in(&snapshot, writer as u64).unwrap_or_else(|wrong| panic!("{context}: {wrong}"))
        };
        let found: Vec<u64> = (0..WRITERS).map(read).collect();
        let names: Vec<String> = store.snapshots().into_iter().map(|named| named.name).collect();
        self.found(snapshot.version().0, &found, &names.iter().map(|name| &name[..]).collect(), context);
        for name in &names {
            let kept = store.open_snapshot(name).expect("it is listed");
            let n = commits_in(&kept, 0).unwrap_or_else(|wrong| panic!("{context}, {name}: {wrong}"));
            assert_eq!(n, self.names[name].1, "{context}: what {name} keeps");
        }
        store.verify(&mut ()).unwrap_or_else(|error| panic!("{context}: {error}"));
        store.audit().unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} synced and {} buffered commits told, {} buffered ones lost, {} names, {} openings checked",
            self.synced, self.buffered, self.lost, self.named, self.openings
        )
    }
}
