//! Dependencies between transactions, and cycles of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How one transaction depends on another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Edge {
    /// The second overwrote what the first wrote.
    Ww,
    /// The second read what the first wrote.
    Wr,
    /// The second overwrote what the first had read.
    Rw,
}

#[derive(Default)]
pub(crate) struct Graph {
    edges: BTreeMap<usize, BTreeSet<(usize, Edge)>>,
}

impl Graph {
    pub(crate) fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.edges.entry(from).or_default().insert((to, edge));
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.edges.values().map(BTreeSet::len).sum()
    }

    fn of(&self, from: usize) -> impl Iterator<Item = (usize, Edge)> + '_ {
        self.edges.get(&from).into_iter().flatten().copied()
    }

    /// A shortest cycle of the edges that `takes` takes, through a transaction that lies on one; each with the edge that leads on.
    pub(crate) fn cycle(&self, takes: impl Fn(usize, Edge) -> bool + Copy) -> Option<Vec<(usize, Edge)>> {
        let follow = |node: usize| -> Vec<usize> {
            self.of(node).filter(|(_, edge)| takes(node, *edge)).map(|(to, _)| to).collect()
        };
        let start = on_a_cycle(self.edges.keys().copied(), follow)?;
        self.path(start, start, takes)
    }

    /// A cycle without two anti-dependencies in a row: what snapshot isolation rules out (Fekete and others, "Making Snapshot
    /// Isolation Serializable", 2005).
    pub(crate) fn cycle_without_adjacent_rw(&self) -> Option<Vec<(usize, Edge)>> {
        // Each transaction twice: come to in any way, or by an anti-dependency, from where no other one leads on.
        let follow = |node: usize| -> Vec<usize> {
            let (txn, by_rw) = (node / 2, node % 2 == 1);
            self.of(txn)
                .filter(|(_, edge)| !(by_rw && *edge == Edge::Rw))
                .map(|(to, edge)| to * 2 + usize::from(edge == Edge::Rw))
                .collect()
        };
        let start = on_a_cycle(self.edges.keys().flat_map(|txn| [txn * 2, txn * 2 + 1]), follow)?;
        let nodes = bfs(start, start, follow)?;
        let edge_of = |pair: &[usize]| {
            let is_rw = pair[1] % 2 == 1;
            let edge =
                self.of(pair[0] / 2).find(|(to, edge)| *to == pair[1] / 2 && (*edge == Edge::Rw) == is_rw);
            (pair[0] / 2, edge.expect("it was followed").1)
        };
        Some(nodes.windows(2).map(edge_of).collect())
    }

    /// A cycle with exactly one anti-dependency.
    pub(crate) fn cycle_with_one_rw(&self) -> Option<Vec<(usize, Edge)>> {
        self.edges.iter().find_map(|(from, edges)| {
            edges.iter().filter(|(_, edge)| *edge == Edge::Rw).find_map(|(to, _)| {
                let mut back = self.path(*to, *from, |_, edge| edge != Edge::Rw)?;
                back.insert(0, (*from, Edge::Rw));
                Some(back)
            })
        })
    }

    fn path(
        &self,
        from: usize,
        to: usize,
        takes: impl Fn(usize, Edge) -> bool,
    ) -> Option<Vec<(usize, Edge)>> {
        let follow = |node: usize| -> Vec<usize> {
            self.of(node).filter(|(_, edge)| takes(node, *edge)).map(|(to, _)| to).collect()
        };
        let nodes = bfs(from, to, follow)?;
        let edge_of = |pair: &[usize]| {
            let found = self.of(pair[0]).find(|(to, edge)| *to == pair[1] && takes(pair[0], *edge));
            (pair[0], found.expect("it was followed").1)
        };
        Some(nodes.windows(2).map(edge_of).collect())
    }
}

/// The nodes of a shortest way of at least one step.
fn bfs(from: usize, to: usize, follow: impl Fn(usize) -> Vec<usize>) -> Option<Vec<usize>> {
    let mut came_from = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(node) = queue.pop_front() {
        for next in follow(node) {
            if came_from.contains_key(&next) {
                continue;
            }
            came_from.insert(next, node);
            if next == to {
                let mut nodes = vec![to];
                loop {
                    let before = came_from[nodes.last().expect("it has one")];
                    nodes.push(before);
                    if before == from {
                        nodes.reverse();
                        return Some(nodes);
                    }
                }
            }
            queue.push_back(next);
        }
    }
    None
}

/// A node that lies on a cycle: what is left when nodes without a way in are taken away, and then those without a way out,
/// until nothing changes.
fn on_a_cycle(nodes: impl Iterator<Item = usize>, follow: impl Fn(usize) -> Vec<usize>) -> Option<usize> {
    let edges: BTreeMap<usize, Vec<usize>> = nodes.map(|node| (node, follow(node))).collect();
    let mut ways_in: BTreeMap<usize, usize> = BTreeMap::new();
    for to in edges.values().flatten() {
        *ways_in.entry(*to).or_default() += 1;
    }
    let mut left: BTreeSet<usize> = edges.keys().copied().collect();
    let mut free: Vec<usize> = left.iter().copied().filter(|node| !ways_in.contains_key(node)).collect();
    while let Some(node) = free.pop() {
        left.remove(&node);
        for to in &edges[&node] {
            let ways = ways_in.get_mut(to).expect("counted above");
            *ways -= 1;
            if *ways == 0 && left.contains(to) {
                free.push(*to);
            }
        }
    }
    // All that are left have a way in from another of them, so walking back long enough leads onto a cycle.
    let mut before: BTreeMap<usize, usize> = BTreeMap::new();
    for node in &left {
        for to in edges[node].iter().filter(|to| left.contains(to)) {
            before.insert(*to, *node);
        }
    }
    let mut node = *left.first()?;
    for _ in 0..left.len() {
        node = before[&node];
    }
    Some(node)
}
