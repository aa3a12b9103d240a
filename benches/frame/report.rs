//! The table that a run ends in.

use serde_json::json;

use super::measure::Pair;

/// What a figure is held against.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// Shown for the reader; nothing was promised.
    None,
}

struct Row {
    figure: String,
    unit: &'static str,
    measured: f64,
    floor: Option<f64>,
    ratio: Option<f64>,
    target: Target,
}

impl Row {
    /// Whether the target is met, if there is one.
    fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio.unwrap_or(f64::NAN);
        match self.target {
            Target::AtMost(most) => Some(self.measured <= most),
            Target::AtLeast(least) => Some(self.measured >= least),
            Target::RatioAtMost(most) => Some(ratio <= most),
            Target::RatioAtLeast(least) => Some(ratio >= least),
            Target::None => None,
        }
    }

    fn target(&self) -> String {
        match self.target {
            Target::AtMost(most) => format!("<= {}", number(most)),
            Target::AtLeast(least) => format!(">= {}", number(least)),
            Target::RatioAtMost(most) => format!("ratio <= {most}"),
            Target::RatioAtLeast(least) => format!("ratio >= {least}"),
            Target::None => String::new(),
        }
    }

    fn cells(&self) -> [String; 6] {
        let met = self.is_met().map_or("", |met| if met { "yes" } else { "NO" });
        [
            self.figure.clone(),
            format!("{} {}", number(self.measured), self.unit),
            self.floor.map(|floor| format!("{} {}", number(floor), self.unit)).unwrap_or_default(),
            self.target(),
            self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            met.to_owned(),
        ]
    }
}

/// Three digits that count, and no more.
fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// What was measured so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    machine: Vec<(&'static str, String)>,
}

impl Report {
    /// A figure that stands alone.
    pub(crate) fn figure(
        &mut self,
        figure: impl Into<String>,
        unit: &'static str,
        measured: f64,
        target: Target,
    ) {
        self.push(Row { figure: figure.into(), unit, measured, floor: None, ratio: None, target });
    }

    /// A figure beside its floor.
    pub(crate) fn pair(
        &mut self,
        figure: impl Into<String>,
        unit: &'static str,
        pair: &Pair,
        target: Target,
    ) {
        let (floor, ratio) = (Some(pair.floor), Some(pair.ratio));
        self.push(Row { figure: figure.into(), unit, measured: pair.ours, floor, ratio, target });
    }

    fn push(&mut self, row: Row) {
        // A run takes minutes: say how far it is.
        eprintln!("  {}", row.cells().join(" | "));
        self.rows.push(row);
    }

    pub(crate) fn machine(&mut self, facts: Vec<(&'static str, String)>) {
        self.machine = facts;
    }

    pub(crate) fn print_table(&self) {
        let head = ["figure", "measured", "floor", "target", "ratio", "ok?"].map(str::to_owned);
        let lines: Vec<[String; 6]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let widths: [usize; 6] =
            std::array::from_fn(|i| lines.iter().map(|cells| cells[i].len()).max().unwrap_or(0));
        for (at, cells) in lines.iter().enumerate() {
            let padded: Vec<String> =
                cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("| {} |", padded.join(" | "));
            if at == 0 {
                println!("|-{}-|", widths.map(|width| "-".repeat(width)).join("-|-"));
            }
        }
        println!();
        for (name, value) in &self.machine {
            println!("{name}: {value}");
        }
    }

    pub(crate) fn print_json(&self) {
        for row in &self.rows {
            let line = json!({
                "figure": row.figure,
                "unit": row.unit,
                "measured": row.measured,
                "floor": row.floor,
                "ratio": row.ratio,
                "target": row.target(),
                "ok": row.is_met(),
            });
            println!("{line}");
        }
        let facts: serde_json::Map<String, serde_json::Value> =
            self.machine.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        println!("{}", json!({ "machine": facts }));
    }
}
