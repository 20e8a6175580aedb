//! Which path is answered by what.

use crate::figures::{FONT_REGULAR_WOFF2, FONT_SEMIBOLD_WOFF2};
use crate::serve::request::Request;
use crate::serve::response::Response;
use crate::serve::site::Site;
use crate::serve::{api, curves, guard::Guard, run_page, samples};

/// All pages: what they show is put in by the script, from the JSON of the same server, as text and never as markup.
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

impl Site {
    /// The answer to a request, whatever it asks.
    pub fn answer(&self, guard: &Guard, request: &Request) -> Response {
        if let Some(refusal) = guard.refuse(request) {
            return refusal;
        }
        if !["GET", "HEAD"].contains(&request.method.as_str()) {
            return Response::error(405, "nothing can be changed here").with("Allow", "GET, HEAD");
        }
        self.get(request).unwrap_or_else(|refusal| refusal)
    }

    fn get(&self, request: &Request) -> Result<Response, Response> {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["page.css"] => Ok(Response::of("text/css; charset=utf-8", STYLE.as_bytes())),
            ["page.js"] => Ok(Response::of(
                "text/javascript; charset=utf-8",
                SCRIPT.as_bytes(),
            )),
            ["inter-400.woff2"] => Ok(Response::of("font/woff2", FONT_REGULAR_WOFF2)),
            ["inter-600.woff2"] => Ok(Response::of("font/woff2", FONT_SEMIBOLD_WOFF2)),
            [] | ["curves"] | ["sweeps" | "runs", _] => {
                Ok(Response::of("text/html; charset=utf-8", PAGE.as_bytes()))
            }
            ["api", "sweeps"] => api::sweeps(self),
            ["api", "sweeps", name] => api::sweep(self, name),
            ["api", "sweeps", name, "runs"] => api::runs(self, name, request),
            ["api", "sweeps", name, "results"] => {
                let results = self.results(name)?;
                let answer = if request.known == results.mark {
                    Response::unchanged()
                } else {
                    Response::json(&results.json)
                };
                Ok(answer.with("ETag", results.mark.clone()))
            }
            ["api", "sweeps", name, "figures", figure] => self.figure(name, figure),
            ["api", "runs", id] => run_page::run(self, id),
            ["api", "runs", id, "steps"] => curves::steps(self, id, request),
            ["api", "runs", id, "log"] => run_page::log(self, id, request),
            ["api", "runs", id, "samples"] => samples::samples(self, id, request),
            _ => Err(Response::error(
                404,
                "there is no such page; `/` lists sweeps",
            )),
        }
    }

    /// A figure of the sweep's report.
    fn figure(&self, sweep: &str, name: &str) -> Result<Response, Response> {
        let results = self.results(sweep)?;
        let missing = || Response::error(404, "the sweep has no such figure");
        let svg = results.figures.get(name).ok_or_else(missing)?;
        Ok(Response::of("image/svg+xml", svg.clone().into_bytes()))
    }
}
