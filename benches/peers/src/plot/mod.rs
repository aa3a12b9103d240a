//! The page: what was measured, as pictures and tables, and the targets, met or missed.

mod page;
mod svg;
mod targets;

use std::collections::BTreeMap;

use crate::Result;
use crate::args::Plot;
use crate::record::{Figure, Line, Peer, Run};

/// All that some runs left.
pub(crate) struct Records {
    run: Run,
    peers: Vec<Peer>,
    /// In the order in which they were first measured: each figure's id, and its values by peer.
    ids: Vec<String>,
    figures: BTreeMap<(String, String), Figure>,
}

impl Records {
    fn read(args: &Plot) -> Result<Records> {
        let (mut run, mut peers, mut ids, mut figures) =
            (None, Vec::<Peer>::new(), Vec::new(), BTreeMap::new());
        for path in &args.lines {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            for (at, line) in text.lines().enumerate() {
                let line = serde_json::from_str(line)
                    .map_err(|error| format!("{}, line {}: {error}", path.display(), at + 1))?;
                match line {
                    Line::Run(facts) => run = run.or(Some(facts)),
                    Line::Peer(peer) if peers.iter().any(|known| known.name == peer.name) => {}
                    Line::Peer(peer) => peers.push(peer),
                    Line::Figure(figure) => {
                        if !ids.contains(&figure.id) {
                            ids.push(figure.id.clone());
                        }
                        figures.insert((figure.id.clone(), figure.peer.clone()), figure);
                    }
                }
            }
        }
        Ok(Records { run: run.ok_or("the lines are of no run")?, peers, ids, figures })
    }

    fn figure(&self, id: &str, peer: &str) -> Option<&Figure> {
        self.figures.get(&(id.to_owned(), peer.to_owned()))
    }

    fn median(&self, id: &str, peer: &str) -> Option<f64> {
        Some(self.figure(id, peer)?.value.as_ref()?.median)
    }

    /// Any peer's line of a figure: its title, unit and direction.
    fn any(&self, id: &str) -> Option<&Figure> {
        self.peers.iter().find_map(|peer| self.figure(id, &peer.name))
    }

    /// The best peer but vellum and the floor, and its median.
    fn best_peer(&self, id: &str) -> Option<(&str, f64)> {
        let better = self.any(id)?.better;
        let others = self.peers.iter().filter(|peer| !peer.is_floor && peer.name != OURS);
        let values = others.filter_map(|peer| Some((peer.name.as_str(), self.median(id, &peer.name)?)));
        values.max_by(|(_, one), (_, two)| better.ratio(*one, *two).total_cmp(&1.0))
    }
}

/// Whose page it is.
const OURS: &str = "vellum";
const FLOOR: &str = "floor";

pub(crate) fn plot(args: &Plot) -> Result {
    let records = Records::read(args)?;
    std::fs::create_dir_all(&args.pictures)?;
    let page = page::write(&records, args)?;
    std::fs::write(&args.page, page)?;
    println!("{} and its pictures in {}", args.page.display(), args.pictures.display());
    Ok(())
}
