//! Writes a report's files.

use crate::base::write_atomic;
use crate::figures::write_figure;
use crate::report::claims::claims_csv;
use crate::report::figures::build_figure;
use crate::report::html::document_html;
use crate::report::latex::grid_latex;
use crate::report::markdown::document_markdown;
use crate::report::page::{build_report, page_grid};
use crate::report::select::{ReportError, SweepResults};
use crate::report::table::table_csv;
use std::path::{Path, PathBuf};

/// Writes every figure of the sweep file into `folder`; returns the files' paths.
///
/// # Errors
/// A figure does not fit the sweep, or a file cannot be read or written.
pub fn write_figures(results: &SweepResults, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut paths = Vec::new();
    for spec in &results.sweep.report.figures {
        paths.extend(write_figure(folder, &build_figure(results, spec)?)?);
    }
    Ok(paths)
}

/// Writes `report.md`, `index.html`, `claims.csv` if there are claims, `tables/<name>.{csv,tex}` and `figures/<name>.{svg,png,csv,json}`
/// into `folder` (`reports/<sweep>`); returns their paths. The same results give the same bytes. The page is
/// written last: by its time a later `lions run` tells whether all of this is current.
///
/// # Errors
/// As [`write_figures`].
pub fn write_report(results: &SweepResults, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let report = build_report(results)?;
    let mut paths = Vec::new();
    let mut put = |name: String, text: String| -> Result<(), ReportError> {
        let path = folder.join(name);
        write_atomic(&path, text.as_bytes())?;
        paths.push(path);
        Ok(())
    };
    put("report.md".to_owned(), document_markdown(&report.document))?;
    if !report.claims.is_empty() {
        put("claims.csv".to_owned(), claims_csv(&report.claims))?;
    }
    for table in &report.tables {
        put(format!("tables/{}.csv", table.name), table_csv(table))?;
        put(
            format!("tables/{}.tex", table.name),
            grid_latex(
                &page_grid(table),
                &format!("{}-{}", results.sweep.name, table.name),
            ),
        )?;
    }
    for figure in &report.figures {
        paths.extend(write_figure(&folder.join("figures"), figure)?);
    }
    let page = folder.join("index.html");
    write_atomic(&page, document_html(&report.document).as_bytes())?;
    paths.insert(1, page);
    Ok(paths)
}
