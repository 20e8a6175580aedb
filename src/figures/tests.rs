//! What holds for every kind of figure.

use crate::figures::export::{figure_csv, figure_sidecar, rasterize};
use crate::figures::fixtures_tests as fixtures;
use crate::figures::{
    BarChart, Drawing, FigureError, LineChart, Scale, draw, draw_narrow, looks_of, write_figure,
};
use crate::metrics::Better;

#[test]
fn the_same_figure_is_the_same_bytes_twice() {
    for figure in fixtures::all() {
        let (a, b) = (draw(&figure).unwrap(), draw(&figure).unwrap());
        assert_eq!(a.svg, b.svg, "{}", figure.name);
        let png = |svg| rasterize(&figure.name, svg, 1.0).unwrap();
        assert_eq!(png(&a.svg), png(&b.svg), "{}", figure.name);
    }
}

/// One line a fixture: the digests of its SVG, CSV, JSON and PNG. A change here is a change of every
/// committed figure: look at `target/figure-samples` before accepting it.
#[test]
fn every_fixture_has_the_committed_bytes() {
    let short = |bytes: &[u8]| crate::base::digest_bytes(bytes).0[..12].to_owned();
    let mut lines = String::new();
    for figure in fixtures::all() {
        let svg = draw(&figure).unwrap().svg;
        let png = rasterize(&figure.name, &svg, 1.0).unwrap();
        let (csv, json) = (figure_csv(&figure), figure_sidecar(&figure));
        let files = [svg.as_bytes(), csv.as_bytes(), json.as_bytes(), &png];
        lines += &format!("{}: {}\n", figure.name, files.map(short).join(" "));
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn no_two_texts_overlap_and_all_stand_inside() {
    for figure in fixtures::all() {
        for drawing in [draw(&figure).unwrap(), draw_narrow(&figure).unwrap()] {
            texts_are_apart(&figure.name, &drawing);
        }
    }
}

fn texts_are_apart(name: &str, drawing: &Drawing) {
    for (i, a) in drawing.texts.iter().enumerate() {
        assert!(
            a.left >= 0.0
                && a.right <= drawing.size.0
                && a.top >= 0.0
                && a.bottom <= drawing.size.1,
            "{name}: {a:?} outside {:?}",
            drawing.size
        );
        for b in &drawing.texts[i + 1..] {
            assert!(
                !a.overlaps(b),
                "{name}, {} wide: {a:?} on {b:?}",
                drawing.size.0
            );
        }
    }
}

#[test]
fn a_figure_carries_its_runs_and_names_what_is_missing() {
    let figure = fixtures::bars(true);
    let svg = draw(&figure).unwrap().svg;
    assert!(svg.contains("<run>3f9a1c0b27de</run>"));
    assert!(svg.contains("Missing: batching=concat mask=all-tokens: 1 of 3 seeds failed"));
    assert!(resvg::usvg::roxmltree::Document::parse(&svg).is_ok());
}

#[test]
fn the_csv_holds_every_mean_and_every_seed() {
    let csv = figure_csv(&fixtures::bars(false));
    let mut lines = csv.lines();
    assert_eq!(
        lines.next(),
        Some("panel,series,x,seed,n,value,low,high,runs")
    );
    // Six groups, five of which have three seeds.
    assert_eq!(lines.count(), 6 + 15);
    assert!(
        csv.contains(",mask = all-tokens,concat,mean,0,,,,failed\n"),
        "{csv}"
    );
}

#[test]
fn four_files_appear_and_the_second_time_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let read = || {
        let paths = write_figure(dir.path(), &fixtures::lines()).unwrap();
        paths
            .iter()
            .map(|p| std::fs::read(p).unwrap())
            .collect::<Vec<_>>()
    };
    let first = read();
    assert_eq!(first.len(), 4);
    assert_eq!(&first[1][1..4], b"PNG");
    assert_eq!(first, read());
}

#[test]
fn numbers_that_cannot_be_drawn_are_refused() {
    let chart = LineChart {
        scale: Scale::Log,
        reference: None,
        series: vec![crate::figures::Series {
            name: String::new(),
            look: 0,
            points: vec![fixtures::point(0.0, &[1.0])],
        }],
    };
    let mut figure = fixtures::lines();
    figure.panels = vec![fixtures::panel("", ("β", "y"), Better::Higher, chart)];
    assert!(matches!(
        draw(&figure),
        Err(FigureError::Value { axis: "x", .. })
    ));
    figure.panels.clear();
    assert!(matches!(draw(&figure), Err(FigureError::Empty { .. })));
}

#[test]
fn figures_without_any_result_still_say_so() {
    let mut figure = fixtures::bars(true);
    let mut chart: BarChart = figure.panels[0].chart::<BarChart>().unwrap().clone();
    for p in chart.series.iter_mut().flat_map(|s| &mut s.points) {
        *p = fixtures::point(p.x, &[]);
    }
    figure.panels[0].chart = Box::new(chart);
    assert!(
        draw(&figure)
            .unwrap()
            .texts
            .iter()
            .any(|t| t.text == "failed")
    );
}

/// They stay in `target/figure-samples`, for a person to look at.
#[test]
fn every_sample_can_be_written() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/figure-samples");
    for figure in fixtures::all() {
        assert_eq!(write_figure(&folder, &figure).unwrap().len(), 4);
        let narrow = draw_narrow(&figure).unwrap().svg;
        let path = folder.join(format!("{}-narrow.svg", figure.name));
        crate::base::write_atomic(&path, narrow.as_bytes()).unwrap();
    }
}

#[test]
fn a_scaling_figure_says_how_each_series_saturates() {
    let figure = fixtures::scaling();
    let sidecar: serde_json::Value = serde_json::from_str(&figure_sidecar(&figure)).unwrap();
    let how = |i: usize| {
        sidecar["fits"][i]["saturation"]["how"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(how(0), "turn of the fit");
    assert_eq!(how(2), "first point not clearly worse than the best");
    assert_eq!(sidecar["fits"][0]["fit"]["u"], "log10 x");
    // The sample's parabola is 0.842 + 1/3000 − 0.03·(u − 9.9)².
    let turn = sidecar["fits"][0]["saturation"]["x"].as_f64().unwrap();
    assert!((turn.log10() - 9.9).abs() < 1e-9);
    assert!(draw(&figure).unwrap().svg.contains("saturates at 7.94e9"));
}

#[test]
fn a_reference_is_named_once_and_stands_in_the_csv() {
    let figure = fixtures::reference(true);
    let texts = draw(&figure).unwrap().texts;
    let named = texts
        .iter()
        .filter(|t| t.text.starts_with("filter = none, pairs = 933: 0.876 ["));
    assert_eq!(named.count(), 1);
    assert!(figure_csv(&figure).contains(",reference,\"filter = none, pairs = 933\",mean,3,0.87"));
}

#[test]
fn a_batch_is_drawn_to_scale() {
    let figure = fixtures::batch();
    let csv = figure_csv(&figure);
    assert!(csv.contains("(a) Padded to the longest row,chosen reply of pair 1,row 1,,,60,,,\n"));
    let rects = |svg: &str| svg.matches("<rect ").count();
    // 8 padded rows of 2 pieces and 5 of padding or more; 16 pieces flat; legend and background.
    assert!(rects(&draw(&figure).unwrap().svg) > 8 * 2 + 5 + 16);
}

// Of a sweep with three and of one with two of these values.
#[test]
fn a_value_has_one_look_whichever_others_stand_beside_it() {
    let names = |values: &[&str]| -> Vec<String> {
        let name = values.iter().map(|v| format!("loss-mask = {v}"));
        name.collect()
    };
    let two = looks_of(&names(&["assistant-only", "all-tokens"]));
    let turned = looks_of(&names(&["all-tokens", "assistant-only"]));
    assert_eq!(two, [turned[1], turned[0]]);
    let three = looks_of(&names(&["assistant-only", "last-turn", "all-tokens"]));
    assert_eq!([three[0], three[2]], [two[0], two[1]]);
    let many: Vec<String> = (0..8).map(|k| format!("k = {k}")).collect();
    let mut all = looks_of(&many);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_known_value_is_a_line_or_said_to_lie_outside() {
    let level = |value| crate::figures::Level {
        name: "chance".to_owned(),
        value,
    };
    let said = |value| {
        let mut figure = fixtures::lines();
        figure.panels[0].levels = vec![level(value)];
        let texts = draw(&figure).unwrap().texts;
        let found = texts.into_iter().find(|t| t.text.contains("chance"));
        found.unwrap().text
    };
    assert_eq!(said(0.9), "Dotted: chance 0.900");
    assert_eq!(said(0.5), "Outside the plot: chance 0.500");
}
