//! `lions serve`.

use crate::base::Shutdown;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::port;
use crate::cli::project::Project;
use crate::cli::signals::stop_on_signals;
use crate::cli::ui::Ui;
use crate::rundir::host_name;
use crate::serve::{Guard, Site, serve};
use rand::Rng as _;
use serde_json::json;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::thread;
use std::time::Duration;

/// Show sweeps, runs, curves and samples as web pages, which follow what is running
///
/// Only reads: nothing can be changed there. Ctrl-C ends it; running runs do not notice.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Port; 0 takes one that is free
    #[arg(long, default_value_t = 7860, value_name = "N", value_parser = port)]
    port: u16,
    /// Name or address of this machine to listen at; any but the loopback needs a token
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    host: String,
    /// Who asks must know this word; made up where one is needed and none is given
    #[arg(long, value_name = "WORD", value_parser = token)]
    token: Option<String>,
}

/// A token stands in addresses and cookies as it is.
fn token(word: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    if word.len() < 8 || !word.chars().all(plain) {
        return Err("it must have 8 letters, digits, `-`, `_`, `.` or `~` or more".to_owned());
    }
    Ok(word.to_owned())
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ServeArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let listener = listen(&args.host, args.port)?;
    let address = listener.local_addr().map_err(CommandError::internal)?;
    let token = match &args.token {
        Some(word) => Some(word.clone()),
        None if address.ip().is_loopback() => None,
        None => Some(format!("{:032x}", rand::rng().random::<u128>())),
    };
    let machine = host_name();
    let guard = Guard::new(&address, &[&args.host, &machine], token.as_deref());
    let url = url(&args.host, &machine, &address, token.as_deref());
    if ui.json {
        ui.print_json(&json!({ "url": url, "address": address.to_string(), "token": token }))?;
    } else {
        ui.out(&url);
        ui.say("only reads; Ctrl-C ends it");
    }
    let shutdown = Shutdown::new();
    stop_on_signals(&shutdown)?;
    let site = Site::new(&project.root);
    // The threads end with the process.
    let answering = thread::Builder::new()
        .name("listener".to_owned())
        .spawn(move || {
            serve(&listener, move |request| site.answer(&guard, request));
        });
    let answering = answering.map_err(CommandError::internal)?;
    while !shutdown.requested() && !answering.is_finished() {
        thread::sleep(Duration::from_millis(100));
    }
    Ok(DONE)
}

fn listen(host: &str, port: u16) -> Result<TcpListener, CommandError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (bare, port)
        .to_socket_addrs()
        .map_err(|error| {
            CommandError::user(format!("`{host}` is no address of this machine: {error}"))
                .hint("`--host 0.0.0.0` listens at all of them")
        })?
        .collect();
    TcpListener::bind(addresses.as_slice()).map_err(|error| {
        let error = CommandError::user(format!("cannot listen at `{host}`, port {port}: {error}"));
        error.hint("`--port 0` takes a port that is free")
    })
}

/// The address to open: where the server listens at all addresses, the machine by its name.
fn url(host: &str, machine: &str, address: &SocketAddr, token: Option<&str>) -> String {
    let named = match address.ip() {
        ip if ip.is_unspecified() => machine.to_owned(),
        _ if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        _ => host.to_owned(),
    };
    let token = token.map_or_else(String::new, |word| format!("?token={word}"));
    format!("http://{named}:{}/{token}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_to_open_names_the_machine() {
        let at =
            |host: &str, address: &str, token| url(host, "gpu7", &address.parse().unwrap(), token);
        assert_eq!(
            at("127.0.0.1", "127.0.0.1:80", None),
            "http://127.0.0.1:80/"
        );
        assert_eq!(
            at("0.0.0.0", "0.0.0.0:80", Some("a")),
            "http://gpu7:80/?token=a"
        );
        assert_eq!(at("::1", "[::1]:80", None), "http://[::1]:80/");
        assert_eq!(
            at("localhost", "127.0.0.1:80", None),
            "http://localhost:80/"
        );
    }

    #[test]
    fn a_token_can_stand_in_an_address() {
        assert!(token("a-long.enough_1~").is_ok());
        for wrong in ["short", "with blank", "a;b=c;d=e", "päßwörter!"] {
            assert!(token(wrong).is_err(), "{wrong}");
        }
    }
}
