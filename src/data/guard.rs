//! What a template may do with values, whatever their size.
//!
//! The engine lets a render pay for its steps, and for the bytes and places that it makes, out of a
//! store of fuel. A few steps it gives away whatever they work through: to compare two values, to look
//! one up, to write a list into a text. A list may hold another one a thousand times over, and that
//! another one, so that such a step may take years. So the source of a template is rewritten
//! (`expression.rs`): what goes into one of these steps goes through a function of this file first, which
//! walks through the value and pays for what it finds. Thereby
//!
//! - the work of a render is at most some tens of nanoseconds a unit of fuel, and the memory at most 64
//!   bytes;
//! - no value is nested deeper than [`MAX_DEPTH`], since what takes it apart calls itself;
//! - no value holds itself, which would never be freed.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

/// Names of all functions that are put into a source begin so; a template may not use such names.
pub(super) const PREFIX: &str = "lions_";
/// Pays for the value.
pub(super) const SIZED: &str = "lions_sized";
/// Pays for a value of which a part is taken, or which is gone through item by item.
pub(super) const HELD: &str = "lions_held";
/// Pays for a value that a namespace or a loop is to keep.
pub(super) const STORED: &str = "lions_stored";
/// Refuses what jinja2 would escape by.
pub(super) const PLAIN: &str = "lions_plain";
/// Makes a text of an operand of `~`.
pub(super) const TEXT: &str = "lions_text";
/// The operator `%`, which the engine has for numbers only.
pub(super) const REMAINDER: &str = "lions_remainder";
/// Stands for `strftime_now` where it is called.
pub(super) const DATE: &str = "lions_strftime_now";

/// Lists within lists deeper than this are refused.
const MAX_DEPTH: usize = 100;
/// Values that a unit of fuel pays for; the engine's own step costs one.
const VALUES: u64 = 4;
/// Bytes of a text that count as a value.
const BYTES: u64 = 16;

/// A refusal with this reason.
pub(super) fn fail(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// Gives `env` the functions of this file.
pub(super) fn install(env: &mut Environment<'static>) {
    env.add_function(SIZED, sized);
    env.add_function(HELD, held);
    env.add_function(STORED, stored);
    // Writes the whole context, and is none of Jinja2.
    env.remove_global("debug");
}

/// Pays for a value and all that it holds, each as often as it holds it.
///
/// # Errors
/// There is not enough fuel, or lists are nested too deep.
pub(super) fn weigh(state: &State, value: &Value) -> Result<(), Error> {
    let fuel = state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
    let most = fuel.saturating_mul(VALUES);
    let mut left = most;
    let found = walk(value, &mut left, 0);
    state.consume_fuel((most - left) / VALUES)?;
    found
}

/// Pays for what a filter made, as the engine does where it calls one.
pub(super) fn pay_for_made(state: &State, value: &Value) -> Result<(), Error> {
    let size = match value.as_str() {
        Some(text) => text.len() / 64,
        None if value.kind() == ValueKind::Seq => value.len().unwrap_or(0) / 2,
        None => 0,
    };
    state.consume_fuel(1 + size as u64)
}

fn walk(value: &Value, left: &mut u64, depth: usize) -> Result<(), Error> {
    let text = value.as_str().map_or(0, str::len) as u64;
    *left = left
        .checked_sub(1 + text / BYTES)
        .ok_or_else(|| Error::from(ErrorKind::OutOfFuel))?;
    let kind = value.kind();
    if !matches!(kind, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return Ok(());
    }
    if depth == MAX_DEPTH {
        return Err(fail(format!(
            "lists within lists are more than {MAX_DEPTH} deep"
        )));
    }
    for item in value.try_iter()? {
        if kind == ValueKind::Map {
            walk(&value.get_item(&item)?, left, depth + 1)?;
        }
        walk(&item, left, depth + 1)?;
    }
    Ok(())
}

/// The value, paid for; what is only made as it is gone through becomes a list, so that such things do
/// not go through each other.
pub(super) fn sized(state: &State, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Seq | ValueKind::Map => weigh(state, &value)?,
        ValueKind::Iterable => {
            weigh(state, &value)?;
            return Ok(value.try_iter()?.collect());
        }
        _ => {}
    }
    Ok(value)
}

/// As [`sized`] where the engine pays for the items itself, but not for finding them.
fn held(state: &State, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Iterable => return sized(state, value),
        ValueKind::String => {
            state.consume_fuel(value.as_str().map_or(0, str::len) as u64 / 64)?;
        }
        ValueKind::Map => state.consume_fuel(value.len().unwrap_or(0) as u64 / VALUES)?,
        _ => {}
    }
    Ok(value)
}

/// As [`sized`], refused if the value could lead back to what keeps it.
fn stored(state: &State, value: Value) -> Result<Value, Error> {
    let value = sized(state, value)?;
    if leads_back(&value)? {
        return Err(fail(
            "a namespace or `loop` is kept within a namespace or `loop`, where it might hold itself",
        ));
    }
    Ok(value)
}

/// Whether a value, which has been weighed, holds a namespace, a loop, or what may hide one.
fn leads_back(value: &Value) -> Result<bool, Error> {
    if matches!(own_name(value), Some("Namespace" | "Loop")) {
        return Ok(true);
    }
    match value.kind() {
        ValueKind::Iterable => Ok(true),
        ValueKind::Seq | ValueKind::Map => {
            for item in value.try_iter()? {
                if value.kind() == ValueKind::Map && leads_back(&value.get_item(&item)?)? {
                    return Ok(true);
                }
                if leads_back(&item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// What the engine calls an object that is no plain list or dictionary (`Namespace`, `Loop`, `Macro`).
pub(super) fn own_name(value: &Value) -> Option<&'static str> {
    let name = value.as_object()?.type_name().rsplit("::").next()?;
    matches!(name, "Namespace" | "Loop" | "Macro").then_some(name)
}
