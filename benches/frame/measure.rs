//! Rounds, and what several of them come to.

use std::time::{Duration, Instant};

use super::Result;
pub(crate) use super::numbers::Random;
use super::numbers::percentile;

/// The value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
}

/// What two things measured in turn came to.
pub(crate) struct Pair {
    /// Medians over all rounds.
    pub(crate) ours: f64,
    pub(crate) floor: f64,
    /// The median of each round's ours / floor.
    pub(crate) ratio: f64,
}

impl Pair {
    pub(crate) fn of(ours: &[f64], floor: &[f64]) -> Pair {
        let ratios = ours.iter().zip(floor).map(|(ours, floor)| ours / floor).collect();
        Pair { ours: median(ours.to_vec()), floor: median(floor.to_vec()), ratio: median(ratios) }
    }
}

/// Measures several things in turn, `rounds` times; each gets the list of its values. Every other round goes backwards,
/// so that nobody always comes after the same neighbour.
pub(crate) fn in_turn<const N: usize>(
    rounds: usize,
    measures: &mut [&mut dyn FnMut() -> Result<f64>; N],
) -> Result<[Vec<f64>; N]> {
    let mut values: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for round in 0..rounds {
        for step in 0..N {
            let which = if round % 2 == 0 { step } else { N - 1 - step };
            values[which].push(measures[which]()?);
        }
    }
    Ok(values)
}

/// Ours and its floor in turn.
pub(crate) fn pair(
    rounds: usize,
    ours: &mut dyn FnMut() -> Result<f64>,
    floor: &mut dyn FnMut() -> Result<f64>,
) -> Result<Pair> {
    let [ours, floor] = in_turn(rounds, &mut [ours, floor])?;
    Ok(Pair::of(&ours, &floor))
}

/// Nanoseconds for each of `count` operations.
pub(crate) fn nanos_each(count: u32, took: Duration) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(count)
}

/// Operations a second.
pub(crate) fn rate(count: u32, took: Duration) -> f64 {
    f64::from(count) / took.as_secs_f64()
}

/// The median time, in microseconds, of `count` calls.
pub(crate) fn p50_micros(count: u32, call: &mut dyn FnMut() -> Result) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}
