//! The checker: what a history shows that it must not.
//!
//! The classes are those of Adya ("Weak Consistency", 1999) with what Kingsbury and Alvaro ("Elle", 2020) found to be
//! decidable from what clients see: the order of a key's versions is read off its lists, every read names the write it saw,
//! and cycles of dependencies are looked for. Transactions that were given up count as readers: what they saw must be
//! as consistent as for any other.

use std::collections::{BTreeMap, BTreeSet};

use vellum::Isolation;

use crate::graph::{Edge, Graph};
use crate::history::{Key, Kind, Op, Outcome, Txn, Value};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    /// A value that nobody wrote.
    Garbage,
    /// A transaction that doesn't see its own writes, or sees something else at a second look.
    NonRepeatableRead,
    /// G1a: the write of a transaction that was given up was seen.
    AbortedRead,
    /// G1b: a write was seen that its transaction had already overtaken.
    IntermediateRead,
    /// Two reads of a list disagree about its past.
    IncompatibleOrder,
    /// Somebody committed between a transaction's read of a key and its write of it.
    LostUpdate,
    /// A commit that was reported isn't there.
    LostCommit,
    /// What was committed before the transaction began wasn't seen.
    StaleRead,
    /// A cycle of overwriting.
    G0,
    /// A cycle of overwriting and reading.
    G1c,
    /// A cycle with one anti-dependency: read skew.
    GSingle,
    /// A cycle with several anti-dependencies, no two of them in a row.
    GNonadjacent,
    /// A cycle that remains where only serializable transactions are protected as readers.
    G2OfSerializable,
    /// A cycle with two anti-dependencies in a row: write skew, which snapshot isolation allows.
    WriteSkew,
}

#[derive(Default)]
pub(crate) struct Report {
    /// What was found, with one example of each.
    pub(crate) anomalies: BTreeMap<Class, String>,
    pub(crate) committed: usize,
    pub(crate) edges: usize,
}

impl Report {
    fn add(&mut self, class: Class, told: impl FnOnce() -> String) {
        self.anomalies.entry(class).or_insert_with(told);
    }

    pub(crate) fn classes(&self) -> BTreeSet<Class> {
        self.anomalies.keys().copied().collect()
    }
}

/// A key's versions: its values in order, each with its writer.
type Order = Vec<(Value, usize)>;

pub(crate) fn check(kind: Kind, txns: &[Txn]) -> Report {
    let mut report = Report::default();
    let mut writers: BTreeMap<Value, usize> = BTreeMap::new();
    for (index, txn) in txns.iter().enumerate() {
        for (_, value) in txn.writes() {
            assert!(writers.insert(value, index).is_none(), "each value is written once");
        }
    }
    let is_committed = committed(txns, &writers);
    // What a transaction read counts, unless a crash may have taken it.
    let counts = |index: usize| match txns[index].outcome {
        Outcome::Lost => false,
        Outcome::InDoubt => is_committed[index],
        Outcome::Committed(_) | Outcome::Aborted => true,
    };
    report.committed = is_committed.iter().filter(|is| **is).count();
    for txn in txns {
        check_itself(kind, txn, &mut report);
    }
    let orders = match kind {
        Kind::List => list_orders(txns, &writers, &is_committed, &counts, &mut report),
        Kind::Register => register_orders(txns, &is_committed),
    };
    let mut graph = Graph::default();
    for order in orders.values() {
        for pair in order.windows(2) {
            graph.add(pair[0].1, pair[1].1, Edge::Ww);
        }
    }
    let places: BTreeMap<Value, usize> = orders
        .values()
        .flat_map(|order| order.iter().enumerate().map(|(at, (value, _))| (*value, at)))
        .collect();
    for (reader, txn) in txns.iter().enumerate().filter(|(reader, _)| counts(*reader)) {
        for (key, found) in txn.external_reads() {
            let order = orders.get(&key).map_or(&[][..], Vec::as_slice);
            let next = match found.last() {
                None => 0,
                Some(value) => {
                    let Some(writer) = writers.get(value).copied() else {
                        report.add(Class::Garbage, || format!("{} read {value} of {key}", txn.name));
                        continue;
                    };
                    let told = || format!("{} read {value} of {key}, by {}", txn.name, txns[writer].name);
                    if !is_committed[writer] {
                        report.add(Class::AbortedRead, told);
                        continue;
                    }
                    let last = txns[writer].writes().rfind(|(written, _)| *written == key);
                    if last.is_none_or(|(_, last)| last != *value) {
                        report.add(Class::IntermediateRead, told);
                    }
                    graph.add(writer, reader, Edge::Wr);
                    let Some(place) = places.get(value) else { continue };
                    place + 1
                }
            };
            if let Some((_, overwriter)) = order.get(next) {
                graph.add(reader, *overwriter, Edge::Rw);
            }
            if let Some((value, writer)) =
                order[next..].iter().find(|(_, writer)| txns[*writer].ended < txn.began)
            {
                report.add(Class::StaleRead, || {
                    format!("{} read {found:?} of {key} without {value}, by {}", txn.name, txns[*writer].name)
                });
            }
            let own = txn.writes().filter(|(written, _)| *written == key);
            let own_place = match kind {
                Kind::List => own.map(|(_, value)| value).next(),
                Kind::Register => own.map(|(_, value)| value).next_back(),
            };
            if is_committed[reader]
                && let Some(place) = own_place.and_then(|value| places.get(&value))
                && *place != next
            {
                report.add(Class::LostUpdate, || {
                    format!(
                        "{} read {found:?} of {key} and wrote behind {:?}",
                        txn.name,
                        &order[next..*place]
                    )
                });
            }
        }
    }
    report.edges = graph.count();
    cycles(txns, &graph, &mut report);
    report
}

/// Which transactions were committed: those that were told so, and those in doubt of which something was seen.
fn committed(txns: &[Txn], writers: &BTreeMap<Value, usize>) -> Vec<bool> {
    let mut is_committed: Vec<bool> =
        txns.iter().map(|txn| matches!(txn.outcome, Outcome::Committed(_))).collect();
    for (reader, txn) in txns.iter().enumerate() {
        if matches!(txn.outcome, Outcome::Lost | Outcome::InDoubt) {
            continue;
        }
        for value in txn.external_reads().iter().flat_map(|(_, found)| found.iter()) {
            if let Some(writer) = writers.get(value)
                && *writer != reader
                && txns[*writer].outcome == Outcome::InDoubt
            {
                is_committed[*writer] = true;
            }
        }
    }
    is_committed
}

/// What a transaction can tell by itself.
fn check_itself(kind: Kind, txn: &Txn, report: &mut Report) {
    let mut expected: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
    let mut is_blind = BTreeSet::new();
    for op in &txn.ops {
        match op {
            Op::Read { key, found } => match expected.get(key) {
                Some(expected) if is_blind.contains(key) && kind == Kind::List => {
                    if !found.ends_with(expected) {
                        report.add(Class::NonRepeatableRead, || {
                            format!("{} read {found:?} of {key}", txn.name)
                        });
                    }
                }
                Some(expected) if expected != found => report.add(Class::NonRepeatableRead, || {
                    format!("{} read {found:?} of {key}, not {expected:?}", txn.name)
                }),
                Some(_) => {}
                None => drop(expected.insert(*key, found.clone())),
            },
            Op::Write { key, value } => {
                if !expected.contains_key(key) {
                    is_blind.insert(*key);
                }
                let state = expected.entry(*key).or_default();
                if kind == Kind::Register {
                    state.clear();
                }
                state.push(*value);
            }
        }
    }
}

/// The longest list that was read is the order; every other must be a beginning of it.
fn list_orders(
    txns: &[Txn],
    writers: &BTreeMap<Value, usize>,
    is_committed: &[bool],
    counts: &dyn Fn(usize) -> bool,
    report: &mut Report,
) -> BTreeMap<Key, Order> {
    let mut longest: BTreeMap<Key, &[Value]> = BTreeMap::new();
    let reads = || {
        let counted = txns.iter().enumerate().filter(|(reader, _)| counts(*reader));
        counted
            .flat_map(|(_, txn)| txn.external_reads().into_iter().map(move |(key, found)| (txn, key, found)))
    };
    for (_, key, found) in reads() {
        let longest = longest.entry(key).or_default();
        if found.len() > longest.len() {
            *longest = found;
        }
    }
    for (txn, key, found) in reads() {
        if !longest[&key].starts_with(found) {
            report.add(Class::IncompatibleOrder, || {
                format!("{} read {found:?} of {key}, another {:?}", txn.name, longest[&key])
            });
        }
        if found.iter().collect::<BTreeSet<_>>().len() < found.len() {
            report.add(Class::IncompatibleOrder, || format!("{} read {found:?} of {key}", txn.name));
        }
        for value in found {
            match writers.get(value) {
                None => report.add(Class::Garbage, || format!("{} read {value} of {key}", txn.name)),
                Some(writer) if !is_committed[*writer] => report.add(Class::AbortedRead, || {
                    format!("{} read {value} of {key}, by {}", txn.name, txns[*writer].name)
                }),
                Some(_) => {}
            }
        }
    }
    let known: BTreeSet<Value> = longest.values().flat_map(|found| found.iter().copied()).collect();
    for (txn, _) in txns.iter().zip(is_committed).filter(|(_, is)| **is) {
        if let Some((key, value)) = txn.writes().find(|(_, value)| !known.contains(value)) {
            report.add(Class::LostCommit, || format!("{} of {key}, by {}, was never seen", value, txn.name));
        }
    }
    let with_writers = |found: &[Value]| -> Order {
        found.iter().filter_map(|value| Some((*value, *writers.get(value)?))).collect()
    };
    longest.into_iter().map(|(key, found)| (key, with_writers(found))).collect()
}

/// The last write of each transaction to each key, in the order of the versions that the store told.
fn register_orders(txns: &[Txn], is_committed: &[bool]) -> BTreeMap<Key, Order> {
    let mut writes: BTreeMap<Key, BTreeMap<u64, (Value, usize)>> = BTreeMap::new();
    for (index, txn) in txns.iter().enumerate().filter(|(index, _)| is_committed[*index]) {
        let Outcome::Committed(version) = txn.outcome else { continue };
        let last: BTreeMap<Key, Value> = txn.writes().collect();
        for (key, value) in last {
            let other = writes.entry(key).or_default().insert(version, (value, index));
            assert!(other.is_none(), "two transactions wrote {key} in version {version}");
        }
    }
    writes.into_iter().map(|(key, order)| (key, order.into_values().collect())).collect()
}

fn cycles(txns: &[Txn], graph: &Graph, report: &mut Report) {
    let told = |cycle: Vec<(usize, Edge)>| {
        let steps: Vec<String> =
            cycle.iter().map(|(txn, edge)| format!("{} -{edge:?}->", txns[*txn].name)).collect();
        format!("{} {}", steps.join(" "), txns[cycle[0].0].name)
    };
    let mut has_worse = true;
    if let Some(cycle) = graph.cycle(|_, edge| edge == Edge::Ww) {
        report.add(Class::G0, || told(cycle));
    } else if let Some(cycle) = graph.cycle(|_, edge| edge != Edge::Rw) {
        report.add(Class::G1c, || told(cycle));
    } else if let Some(cycle) = graph.cycle_without_adjacent_rw() {
        match graph.cycle_with_one_rw() {
            Some(cycle) => report.add(Class::GSingle, || told(cycle)),
            None => report.add(Class::GNonadjacent, || told(cycle)),
        }
    } else {
        has_worse = false;
    }
    let protects = |txn: usize, edge: Edge| edge != Edge::Rw || txns[txn].level == Isolation::Serializable;
    if let Some(cycle) = graph.cycle(protects)
        && !has_worse
    {
        report.add(Class::G2OfSerializable, || told(cycle));
    }
    if let Some(cycle) = graph.cycle(|_, _| true)
        && !has_worse
    {
        report.add(Class::WriteSkew, || told(cycle));
    }
}
