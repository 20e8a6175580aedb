//! `lions serve`: a read-only web page over the store and the run folders, while others write both.
//!
//! [`serve`] takes connections, a [`Guard`] decides who may ask, and each path is a function of the
//! project: pages without content of their own, and the JSON that they show. Nothing here writes anything. The endpoints
//! are in `docs/serve.md`.

mod api;
mod connections;
mod curves;
mod guard;
mod request;
mod response;
mod results;
mod routes;
mod run_page;
mod samples;
mod site;

pub use connections::serve;
pub use guard::Guard;
pub use request::Request;
pub use response::Response;
pub use site::Site;
