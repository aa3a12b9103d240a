//! Histories made by hand, each with one anomaly, and some without.

use std::collections::BTreeSet;

use vellum::Isolation;

use crate::check::{Class, check};
use crate::history::{Key, Kind, Op, Outcome, Txn, Value};

fn r(key: Key, found: &[Value]) -> Op {
    Op::Read { key, found: found.to_vec() }
}

fn w(key: Key, value: Value) -> Op {
    Op::Write { key, value }
}

/// Transactions that all overlap; each with its outcome.
fn overlapping(txns: Vec<(Outcome, Vec<Op>)>) -> Vec<Txn> {
    let number = |(index, (outcome, ops)): (usize, (Outcome, Vec<Op>))| Txn {
        name: format!("t{index}"),
        level: Isolation::Serializable,
        ops,
        outcome,
        is_durable: false,
        began: 0,
        ended: 1,
    };
    txns.into_iter().enumerate().map(number).collect()
}

fn committed(txns: Vec<Vec<Op>>) -> Vec<Txn> {
    overlapping((1..).zip(txns).map(|(version, ops)| (Outcome::Committed(version), ops)).collect())
}

#[track_caller]
fn shows(txns: &[Txn], expected: &[Class]) {
    let report = check(Kind::List, txns);
    assert_eq!(
        report.classes(),
        expected.iter().copied().collect::<BTreeSet<_>>(),
        "{:#?}",
        report.anomalies
    );
}

#[test]
fn a_serial_history_shows_nothing() {
    shows(
        &committed(vec![
            vec![r(1, &[]), w(1, 10), w(2, 11)],
            vec![r(1, &[10]), w(1, 20), r(1, &[10, 20])],
            vec![r(1, &[10, 20]), r(2, &[11]), w(2, 30)],
            vec![r(1, &[10, 20]), r(2, &[11, 30])],
        ]),
        &[],
    );
}

#[test]
fn a_cycle_of_writes_is_g0() {
    shows(
        &committed(vec![
            vec![w(1, 10), w(2, 11)],
            vec![w(1, 20), w(2, 21)],
            vec![r(1, &[10, 20])],
            vec![r(2, &[21, 11])],
        ]),
        &[Class::G0],
    );
}

#[test]
fn a_cycle_of_reads_is_g1c() {
    shows(&committed(vec![vec![w(1, 10), r(2, &[20])], vec![w(2, 20), r(1, &[10])]]), &[Class::G1c]);
}

#[test]
fn the_read_of_what_was_given_up_is_g1a() {
    let txns = vec![(Outcome::Aborted, vec![w(1, 10)]), (Outcome::Committed(1), vec![r(1, &[10])])];
    shows(&overlapping(txns), &[Class::AbortedRead]);
}

#[test]
fn the_read_of_what_was_overtaken_is_g1b() {
    let report = check(
        Kind::List,
        &committed(vec![vec![w(1, 10), w(1, 11)], vec![r(1, &[10])], vec![r(1, &[10, 11])]]),
    );
    assert!(report.classes().contains(&Class::IntermediateRead));
}

#[test]
fn a_torn_view_of_a_commit_is_g_single() {
    let txns = committed(vec![vec![w(1, 10), w(2, 11)], vec![r(1, &[10]), r(2, &[])], vec![r(2, &[11])]]);
    shows(&txns, &[Class::GSingle]);
}

#[test]
fn a_lost_update_is_told_as_such() {
    let txns = committed(vec![vec![r(1, &[]), w(1, 10)], vec![r(1, &[]), w(1, 20)], vec![r(1, &[10, 20])]]);
    shows(&txns, &[Class::LostUpdate, Class::GSingle]);
}

#[test]
fn anti_dependencies_apart_from_each_other_are_worse_than_write_skew() {
    // t0 -rw-> t1 -wr-> t2 -rw-> t3 -wr-> t0.
    let txns = committed(vec![
        vec![r(1, &[]), r(4, &[40])],
        vec![w(1, 10), w(2, 20)],
        vec![r(2, &[20]), r(3, &[])],
        vec![w(3, 30), w(4, 40)],
        vec![r(1, &[10]), r(3, &[30])],
    ]);
    shows(&txns, &[Class::GNonadjacent, Class::G2OfSerializable, Class::WriteSkew][..1]);
}

#[test]
fn write_skew_is_told_of_those_who_asked_for_protection() {
    let mut txns = committed(vec![
        vec![r(1, &[]), r(2, &[]), w(1, 10)],
        vec![r(1, &[]), r(2, &[]), w(2, 20)],
        vec![r(1, &[10]), r(2, &[20])],
    ]);
    shows(&txns, &[Class::WriteSkew, Class::G2OfSerializable]);
    for txn in &mut txns {
        txn.level = Isolation::Snapshot;
    }
    shows(&txns, &[Class::WriteSkew]);
}

#[test]
fn lists_that_disagree_are_found() {
    let report = check(
        Kind::List,
        &committed(vec![vec![w(1, 10)], vec![w(1, 20)], vec![r(1, &[10])], vec![r(1, &[20])]]),
    );
    assert!(report.classes().contains(&Class::IncompatibleOrder));
    let report = check(Kind::List, &committed(vec![vec![w(1, 10)], vec![r(1, &[10, 10])]]));
    assert!(report.classes().contains(&Class::IncompatibleOrder));
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    assert!(check(Kind::List, &committed(vec![vec![r(1, &[10])]])).classes().contains(&Class::Garbage));
}

#[test]
fn a_commit_that_nobody_saw_is_lost() {
    shows(&committed(vec![vec![w(1, 10)], vec![r(1, &[])]]), &[Class::LostCommit]);
}

#[test]
fn what_was_committed_before_must_be_seen() {
    let mut txns = committed(vec![vec![w(1, 10)], vec![r(1, &[])], vec![r(1, &[10])]]);
    txns[1].began = 2;
    shows(&txns, &[Class::StaleRead]);
}

#[test]
fn in_doubt_is_decided_by_what_is_seen() {
    let txns = |found: &[Value]| {
        overlapping(vec![
            (Outcome::InDoubt, vec![w(1, 10), w(2, 11)]),
            (Outcome::Committed(1), vec![r(1, found), r(2, &[11])]),
        ])
    };
    shows(&txns(&[10]), &[]);
    let report = check(Kind::List, &txns(&[]));
    assert!(report.classes().contains(&Class::LostCommit), "half of it: {:?}", report.anomalies);
}
