//! Numbers along training, thinned to what a picture can show.

use crate::report::{StepRow, read_steps};
use crate::rundir::RunDir;
use crate::serve::request::Request;
use crate::serve::response::Response;
use crate::serve::site::Site;
use serde_json::json;
use std::collections::BTreeSet;

/// Points of a curve, if none are asked for, and at most.
const USUAL_POINTS: usize = 1000;
const MOST_POINTS: usize = 10_000;

/// `/api/runs/ID/steps`: the keys there are, and the curve of `metric` between the steps `from` and `to`.
pub(crate) fn steps(site: &Site, id: &str, request: &Request) -> Result<Response, Response> {
    let row = site.must_ask(|watch| {
        watch
            .store()
            .find_run(id)
            .and_then(|id| watch.store().run(&id))
    })?;
    let steps = read_steps(&RunDir::new(site.root(), &row.id));
    let steps = steps.map_err(|error| Response::error(500, &crate::base::chain(&error)))?;
    let keys: BTreeSet<&String> = steps.iter().flat_map(|step| step.metrics.keys()).collect();
    let metric = request.value("metric").unwrap_or("loss");
    let from = request.number("from", 0, usize::MAX)? as u64;
    let to = request.number("to", usize::MAX, usize::MAX)? as u64;
    let most = request.number("points", USUAL_POINTS, MOST_POINTS)?.max(2);
    let value = |row: &StepRow| Some((row.step, *row.metrics.get(metric)?));
    let within = steps.iter().filter(|row| (from..=to).contains(&row.step));
    let curve: Vec<(u64, f64)> = within.filter_map(value).collect();
    let points = thinned(&curve, most);
    Ok(Response::json(&json!({
        "run": row.id, "stage": row.kind, "metric": metric, "metrics": keys, "of": curve.len(), "points": points,
    })))
}

/// The lowest and the highest of each stretch, so that no peak is lost, and both ends.
fn thinned(curve: &[(u64, f64)], most: usize) -> Vec<(u64, f64)> {
    if curve.len() <= most {
        return curve.to_vec();
    }
    let stretch = curve.len().div_ceil((most / 2).max(1));
    let mut kept: Vec<(u64, f64)> = Vec::with_capacity(most + 2);
    for part in curve.chunks(stretch) {
        let by_value = |a: &&(u64, f64), b: &&(u64, f64)| a.1.total_cmp(&b.1);
        let ends = [part.iter().min_by(by_value), part.iter().max_by(by_value)];
        let mut ends: Vec<(u64, f64)> = ends.into_iter().flatten().copied().collect();
        ends.sort_by_key(|point| point.0);
        kept.extend(ends);
    }
    kept.extend([curve.first(), curve.last()].into_iter().flatten());
    kept.sort_by_key(|point| point.0);
    kept.dedup_by_key(|point| point.0);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_ends_and_peaks() {
        let mut curve: Vec<(u64, f64)> = (0..10_000).map(|step| (step, 1.0)).collect();
        curve[4321].1 = 9.0;
        curve[8765].1 = -9.0;
        let thin = thinned(&curve, 100);
        assert!(thin.len() <= 102, "{}", thin.len());
        for point in [(0, 1.0), (4321, 9.0), (8765, -9.0), (9999, 1.0)] {
            assert!(thin.contains(&point), "{point:?}");
        }
        assert_eq!(thinned(&curve[..50], 100), curve[..50]);
    }
}
