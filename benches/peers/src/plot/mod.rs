//! The page: what was measured, as pictures and tables, and the targets, met or missed.

mod page;
mod svg;
mod targets;

use std::collections::BTreeMap;

use crate::Result;
use crate::args::Plot;
use crate::record::{Figure, Line, Peer, Run, Value};

/// All that some runs left.
pub(crate) struct Records {
    run: Run,
    peers: Vec<Peer>,
    /// In the order in which they were first measured: each figure's id, and its values by peer.
    ids: Vec<String>,
    /// By figure, peer and heat.
    figures: BTreeMap<(String, String, u32), Figure>,
}

impl Records {
    fn read(args: &Plot) -> Result<Records> {
        let (mut run, mut peers, mut ids, mut figures) =
            (None, Vec::<Peer>::new(), Vec::new(), BTreeMap::<(String, String, u32), Figure>::new());
        for path in &args.lines {
            // Heats of another run are others.
            let first_heat = figures.keys().map(|(_, _, heat)| heat + 1).max().unwrap_or(0);
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            for (at, line) in text.lines().enumerate() {
                let line = serde_json::from_str(line)
                    .map_err(|error| format!("{}, line {}: {error}", path.display(), at + 1))?;
                match line {
                    Line::Run(facts) => run = run.or(Some(facts)),
                    Line::Peer(peer) if peers.iter().any(|known| known.name == peer.name) => {}
                    Line::Peer(peer) => peers.push(peer),
                    Line::Figure(mut figure) => {
                        figure.heat += first_heat;
                        if !ids.contains(&figure.id) {
                            ids.push(figure.id.clone());
                        }
                        figures.insert((figure.id.clone(), figure.peer.clone(), figure.heat), figure);
                    }
                }
            }
        }
        Ok(Records { run: run.ok_or("the lines are of no run")?, peers, ids, figures })
    }

    /// A peer's lines of a figure, one for each heat that it took part in.
    fn lines(&self, id: &str, peer: &str) -> impl Iterator<Item = &Figure> {
        let key = |heat| (id.to_owned(), peer.to_owned(), heat);
        self.figures.range(key(0)..=key(u32::MAX)).map(|(_, figure)| figure)
    }

    /// What a peer came to over all heats that it took part in.
    fn figure(&self, id: &str, peer: &str) -> Option<Figure> {
        let samples = self.lines(id, peer).filter_map(|line| line.value.as_ref());
        let value = Value::of(samples.flat_map(|value| value.samples.iter().copied()).collect());
        Some(Figure { value, ..self.lines(id, peer).next()?.clone() })
    }

    fn median(&self, id: &str, peer: &str) -> Option<f64> {
        Some(self.figure(id, peer)?.value?.median)
    }

    /// Any peer's line of a figure: its title, unit and direction.
    fn any(&self, id: &str) -> Option<&Figure> {
        self.peers.iter().find_map(|peer| self.lines(id, &peer.name).next())
    }

    /// What vellum came to, and a peer in the same or another work, where they took turns: the heat of the median ratio, if there were
    /// several, the lower of two.
    fn pair(&self, id: &str, peer: &str, peers_id: &str) -> Option<(f64, f64)> {
        let better = self.any(id)?.better;
        let median = |line: &Figure| Some((line.heat, line.value.as_ref()?.median));
        let ours: BTreeMap<u32, f64> = self.lines(id, OURS).filter_map(median).collect();
        let theirs = self.lines(peers_id, peer).filter_map(median);
        let mut pairs: Vec<(f64, f64)> =
            theirs.filter_map(|(heat, theirs)| Some((*ours.get(&heat)?, theirs))).collect();
        pairs.sort_by(|one, two| better.ratio(one.0, one.1).total_cmp(&better.ratio(two.0, two.1)));
        pairs.get(pairs.len().saturating_sub(1) / 2).copied()
    }

    /// The peer, other than the floor, against which vellum did worst, and what both came to.
    fn best_peer(&self, id: &str) -> Option<(&str, (f64, f64))> {
        let better = self.any(id)?.better;
        let others = self.peers.iter().filter(|peer| !peer.is_floor && peer.name != OURS);
        let pairs = others.filter_map(|peer| Some((peer.name.as_str(), self.pair(id, &peer.name, id)?)));
        pairs.min_by(|(_, one), (_, two)| better.ratio(one.0, one.1).total_cmp(&better.ratio(two.0, two.1)))
    }
}

/// Whose page it is.
pub(crate) const OURS: &str = "vellum";
/// What all stores are held against.
pub(crate) const FLOOR: &str = "floor";

pub(crate) fn plot(args: &Plot) -> Result {
    let records = Records::read(args)?;
    std::fs::create_dir_all(&args.pictures)?;
    let page = page::write(&records, args)?;
    std::fs::write(&args.page, page)?;
    println!("{} and its pictures in {}", args.page.display(), args.pictures.display());
    Ok(())
}
