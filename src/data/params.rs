//! Arguments of filters and methods, by the names that their parameters have in Python.

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};

/// Arguments by place or by name.
///
/// # Errors
/// There are more than there are parameters, or one has another name: nothing is ignored.
pub(super) fn arguments<const N: usize>(
    args: Vec<Value>,
    names: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let mut found = [const { None }; N];
    let mut named = None;
    for (i, arg) in args.into_iter().enumerate() {
        if arg.is_kwargs() {
            named = Some(Kwargs::try_from(arg)?);
        } else if i < N {
            found[i] = Some(arg);
        } else {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
    }
    if let Some(named) = named {
        for (slot, name) in found.iter_mut().zip(names) {
            if !named.has(name) {
                continue;
            }
            if slot.is_some() {
                return Err(Error::new(
                    ErrorKind::TooManyArguments,
                    format!("`{name}` is given twice"),
                ));
            }
            *slot = Some(named.get::<Value>(name)?);
        }
        named.assert_all_used()?;
    }
    Ok(found)
}

/// As [`arguments`] where null is as good as absent.
pub(super) fn options<const N: usize>(
    args: Vec<Value>,
    names: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let found = arguments(args, names)?;
    Ok(found.map(|value| value.filter(|v| !v.is_none())))
}
