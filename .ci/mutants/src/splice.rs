//! Puts the drawn changes into a source file, each behind a switch: `crate::mutants::on(n)`.
//!
//! All of them live in one program, so that it is compiled once and not once for each. The text around a change keeps its lines;
//! a pair of comments holds each change, by which what the compiler refuses is found again.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::find::{Change, Site};

/// The source with the changes in it. Of each change: its number, and itself.
pub(crate) fn splice(source: &str, changes: &[(usize, &Site)]) -> String {
    // What lies around something else comes before it.
    let mut places = BTreeMap::<_, Vec<(usize, &Change)>>::new();
    for (number, site) in changes {
        let place = match &site.change {
            Change::Return { at, .. } => *at..*at,
            Change::Operator { whole, .. } | Change::Unary { whole, .. } => whole.clone(),
            Change::Guard { guard, .. } | Change::Arm { guard: Some(guard), .. } => guard.clone(),
            Change::Arm { pattern_end, guard: None } => *pattern_end..*pattern_end,
        };
        places.entry((place.start, Reverse(place.end))).or_default().push((*number, &site.change));
    }
    let places =
        places.into_iter().map(|((start, end), changes)| (start..end.0, changes)).collect::<Vec<_>>();
    render(source, 0..source.len(), &places)
}

type Place<'a> = (Range<usize>, Vec<(usize, &'a Change)>);

fn render(source: &str, within: Range<usize>, places: &[Place]) -> String {
    let mut text = String::new();
    let mut at = within.start;
    for (index, (place, changes)) in places.iter().enumerate() {
        if place.start < at || place.end > within.end {
            continue;
        }
        text.push_str(&source[at..place.start]);
        text.push_str(&changed(source, place, changes, &places[index + 1..]));
        at = place.end;
    }
    text.push_str(&source[at..within.end]);
    text
}

fn changed(source: &str, place: &Range<usize>, changes: &[(usize, &Change)], inner: &[Place]) -> String {
    let part = |range: &Range<usize>| render(source, range.clone(), inner);
    // What belongs to this place is in `changes`; what lies in it, behind it in the order.
    let original = part(place);
    let marked = |number: usize, text: &str| format!("/*m{number}*/{text}/*w{number}*/");
    let on = |number: usize| format!("crate::mutants::on({number})");
    let mut text = original.clone();
    let (mut holds, mut fails) = (String::new(), String::new());
    let mut is_guard = false;
    for (number, change) in changes {
        match change {
            Change::Return { value, .. } => {
                text.push_str(&marked(*number, &format!(" if {} {{ return {value}; }} ", on(*number))));
            }
            Change::Operator { left, right, to, .. } => {
                let other = format!("{{ ({}) {to} ({}) }}", part(left), part(right));
                text = format!(
                    "({} else {{ {text} }})",
                    marked(*number, &format!("if {} {other}", on(*number)))
                );
            }
            Change::Unary { operand, .. } => {
                let other = format!("{{ {} }}", part(operand));
                text = format!(
                    "({} else {{ {text} }})",
                    marked(*number, &format!("if {} {other}", on(*number)))
                );
            }
            Change::Guard { holds: true, .. } => {
                is_guard = true;
                holds.push_str(&marked(*number, &format!("{} || ", on(*number))));
            }
            Change::Guard { holds: false, .. } | Change::Arm { guard: Some(_), .. } => {
                is_guard = true;
                fails.push_str(&marked(*number, &format!("!{} && ", on(*number))));
            }
            Change::Arm { guard: None, .. } => {
                text.push_str(&marked(*number, &format!(" if !{} ", on(*number))));
            }
        }
    }
    if is_guard { format!("{fails}({holds}({text}))") } else { text }
}

/// Of a byte in spliced text: the innermost change that it belongs to.
pub(crate) fn change_at(text: &str, byte: usize) -> Option<usize> {
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("/*").map(|found| at + found) {
        if found > byte {
            break;
        }
        let comment = &text[found + 2..];
        let end = comment.find("*/")?;
        let word = &comment[..end];
        if let Some(number) = word.get(1..).and_then(|number| number.parse::<usize>().ok()) {
            match word.as_bytes()[0] {
                b'm' => open.push(number),
                b'w' => {
                    open.pop();
                }
                _ => {}
            }
        }
        at = found + 2;
    }
    open.last().copied()
}
