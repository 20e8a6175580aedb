//! Sentences on what the marks of a figure say.

use crate::figures::Point;
use crate::metrics::Better;

/// `panel, line: `, of what is not empty.
pub(super) fn led(title: &str, name: &str) -> String {
    let parts: Vec<&str> = [title, name]
        .into_iter()
        .filter(|p| !p.is_empty())
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("{}: ", parts.join(", "))
    }
}

/// Which of two values is better.
pub(super) fn beats(better: Better, a: f64, b: f64) -> bool {
    if better == Better::Lower {
        a < b
    } else {
        a > b
    }
}

/// The point with the best mean, the first of equals; none of fewer than two.
pub(super) fn best_point(points: &[Point], better: Better) -> Option<&Point> {
    let mut best: Option<(&Point, f64)> = None;
    let mut count = 0;
    for point in points {
        let Some(estimate) = point.estimate else {
            continue;
        };
        count += 1;
        if best.is_none_or(|(_, value)| beats(better, estimate.value, value)) {
            best = Some((point, estimate.value));
        }
    }
    best.filter(|_| count > 1).map(|(point, _)| point)
}
