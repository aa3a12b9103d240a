//! Goal: a node stays what it was until it is taken, whatever comes and goes around it, and its memory comes back.
//!
//! Method: nodes come and go at random, beside a list of those that are there; blocks are counted. Miri runs it with few.

use super::*;
use crate::random::Random;

/// Of a size that is no multiple of a line.
struct Node([u64; 70]);

fn node(tag: u64) -> Node {
    Node([tag; 70])
}

impl<T> Cells<T> {
    /// Blocks, and those of them that have room.
    fn blocks(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.blocks.len(), state.roomy.len())
    }
}

fn take(cells: &Cells<Node>, there: impl IntoIterator<Item = (*mut Node, u64)>) {
    for (pointer, tag) in there {
        // SAFETY: the list has it from `put`, and gives it once.
        unsafe {
            assert!((*pointer).0.iter().all(|word| *word == tag), "node {tag} is no longer what it was");
            cells.take(pointer);
        }
    }
}

#[test]
fn a_node_stays_what_it_was_whatever_comes_and_goes_around_it() {
    let rounds = if cfg!(miri) { 400 } else { 200_000 };
    let (cells, mut random) = (Cells::<Node>::new(), Random(7));
    let mut there: Vec<(*mut Node, u64)> = Vec::new();
    for tag in 0..rounds {
        // It grows for a while, then it shrinks.
        let grows = tag % (rounds / 2) < rounds / 4;
        if there.is_empty() || random.below(10) < if grows { 7 } else { 3 } {
            let pointer = cells.put(node(tag));
            assert_eq!(pointer.addr() % LINE, 0);
            there.push((pointer, tag));
        } else {
            let which = usize::try_from(random.below(there.len() as u64)).unwrap();
            take(&cells, [there.swap_remove(which)]);
        }
    }
    take(&cells, there);
    assert_eq!(cells.blocks(), (1, 1), "one empty block stays");
}

#[test]
fn a_cell_that_was_freed_is_the_next_one_to_be_used() {
    let cells = Cells::<Node>::new();
    let (first, second) = (cells.put(node(1)), cells.put(node(2)));
    take(&cells, [(first, 1)]);
    let third = cells.put(node(3));
    assert_eq!(third, first);
    take(&cells, [(second, 2), (third, 3)]);
}

#[test]
fn few_nodes_take_a_small_block_and_many_take_large_ones() {
    let cells = Cells::<Node>::new();
    let sizes = |cells: &Cells<Node>| {
        let mut sizes: Vec<usize> =
            cells.state.lock().blocks.iter().map(|block| block.layout.size()).collect();
        sizes.sort_unstable();
        sizes
    };
    let mut there = vec![(cells.put(node(0)), 0)];
    assert_eq!(sizes(&cells), [FIRST[0]]);
    let first = FIRST[0] / Cells::<Node>::BYTES;
    there.extend((1..=first as u64).map(|tag| (cells.put(node(tag)), tag)));
    assert_eq!(sizes(&cells), [FIRST[0], FIRST[1]]);
    assert_eq!(cells.blocks(), (2, 1), "the first one is full");
    if !cfg!(miri) {
        let all = (FIRST[0] + FIRST[1] + HUGE) / Cells::<Node>::BYTES + 1;
        there.extend((there.len() as u64..all as u64).map(|tag| (cells.put(node(tag)), tag)));
        assert_eq!(sizes(&cells), [FIRST[0], FIRST[1], HUGE, HUGE]);
    }
    take(&cells, there);
    assert_eq!(cells.blocks(), (1, 1));
}

#[test]
fn nodes_come_and_go_from_several_threads() {
    let rounds = if cfg!(miri) { 20 } else { 20_000 };
    let cells = Cells::<Node>::new();
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let cells = &cells;
            scope.spawn(move || {
                let mut there = Vec::new();
                for round in 0..rounds {
                    let tag = thread << 32 | round;
                    there.push((cells.put(node(tag)), tag));
                    if there.len() > 50 {
                        take(cells, there.drain(..30));
                    }
                }
                take(cells, there);
            });
        }
    });
    assert_eq!(cells.blocks().0, 1);
}
