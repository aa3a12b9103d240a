//! Bar charts: one row a peer, on a logarithmic scale, with the spread of the samples.
//!
//! Drawn by hand: a chart is some rectangles and words, and a plotting crate would be the largest dependency of all.

use std::fmt::Write;

use crate::record::{Better, number};

/// A row of a chart.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) color: &'static str,
}

/// A chart.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) unit: String,
    pub(super) better: Better,
    pub(super) bars: Vec<Bar>,
}

const WIDTH: f64 = 400.0;
const NAMES: f64 = 76.0;
const NUMBERS: f64 = 84.0;
const ROW: f64 = 18.0;
const HEAD: f64 = 40.0;
const GAP: f64 = 16.0;
/// Charts beside each other.
const COLUMNS: usize = 2;

/// Several charts in one picture.
pub(super) fn picture(charts: &[Chart]) -> String {
    let rows = charts.chunks(COLUMNS).map(|row| row.iter().map(height).fold(0.0, f64::max));
    let (width, total) =
        (WIDTH * COLUMNS as f64 + GAP * 3.0, rows.clone().map(|row| row + GAP).sum::<f64>() + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{total:.0}\" \
         viewBox=\"0 0 {width:.0} {total:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut y = GAP;
    for (row, high) in charts.chunks(COLUMNS).zip(rows) {
        for (column, chart) in row.iter().enumerate() {
            let x = GAP + column as f64 * (WIDTH + GAP);
            let _ = writeln!(svg, "<g transform=\"translate({x:.0} {y:.0})\">\n{}</g>", draw(chart));
        }
        y += high + GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn height(chart: &Chart) -> f64 {
    HEAD + ROW * chart.bars.len() as f64
}

fn draw(chart: &Chart) -> String {
    let lowest = chart.bars.iter().map(|bar| bar.min.max(1e-9)).fold(f64::INFINITY, f64::min);
    let highest = chart.bars.iter().map(|bar| bar.max.max(1e-9)).fold(lowest, f64::max);
    // Whole decades, and room for a bar even at the lowest value.
    let (from, to) = ((lowest.log10() - 0.2).floor(), highest.log10() + 0.05);
    let room = WIDTH - NAMES - NUMBERS;
    let place = |value: f64| ((value.max(1e-9).log10() - from) / (to - from)).clamp(0.0, 1.0) * room;
    let way = match chart.better {
        Better::More => "more is better",
        Better::Less => "less is better",
    };
    let unit = if chart.unit.is_empty() { String::new() } else { format!("{}, ", chart.unit) };
    let mut svg = format!(
        "<text x=\"0\" y=\"12\" font-weight=\"bold\">{}</text>\n\
         <text x=\"0\" y=\"27\" fill=\"#666666\">{unit}{way}, logarithmic</text>\n",
        escape(&chart.title)
    );
    let bottom = height(chart);
    let mut decade = from + 1.0;
    while decade < to {
        let x = NAMES + place(10_f64.powf(decade));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{:.0}\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" stroke=\"#e0e0e0\"/>",
            HEAD - 6.0
        );
        decade += 1.0;
    }
    for (at, bar) in chart.bars.iter().enumerate() {
        let y = HEAD + ROW * at as f64;
        let (middle, length) = (y + 7.0, place(bar.median).max(1.0));
        let (low, high) = (NAMES + place(bar.min), NAMES + place(bar.max));
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{NAMES:.0}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"13\" fill=\"{}\"/>\n\
             <line x1=\"{low:.1}\" y1=\"{middle:.1}\" x2=\"{high:.1}\" y2=\"{middle:.1}\" stroke=\"#000000\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 6.0,
            y + 11.0,
            escape(&bar.name),
            bar.color,
            high.max(NAMES + length) + 5.0,
            y + 11.0,
            number(bar.median),
        );
    }
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    //! Goal: a picture is well formed and shows each bar in proportion. Method: one is drawn and looked at.

    use super::*;

    #[test]
    fn a_bar_ten_times_as_long_is_one_decade_longer() {
        let bar = |name: &str, median| Bar {
            name: name.into(),
            median,
            min: median,
            max: median,
            color: "#000000",
        };
        let bars = vec![bar("a<b", 10.0), bar("c", 100.0), bar("d", 1000.0)];
        let chart = Chart { title: "t & u".into(), unit: "ns".into(), better: Better::Less, bars };
        let svg = picture(&[chart]);
        assert!(svg.contains("a&lt;b") && svg.contains("t &amp; u") && svg.ends_with("</svg>\n"));
        let widths: Vec<f64> = svg
            .lines()
            .filter_map(|line| {
                line.strip_prefix("<rect x=\"76\"")?.split("width=\"").nth(1)?.split('"').next()
            })
            .map(|width| width.parse().unwrap())
            .collect();
        assert_eq!(widths.len(), 3);
        assert!(((widths[1] - widths[0]) - (widths[2] - widths[1])).abs() < 0.2, "{widths:?}");
    }
}
