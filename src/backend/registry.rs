//! Every backend of this build, by its name on the command line.

use crate::backend::local::LocalBackend;
use crate::backend::traits::Backend;
use std::path::PathBuf;

/// A backend as `lions run --backend` knows it.
#[derive(Clone, Copy, Debug)]
pub struct BackendSpec {
    /// Its name.
    pub name: &'static str,
    /// Where attempts run, for the help.
    pub about: &'static str,
    /// Makes one that starts attempts with this program.
    pub open: fn(PathBuf) -> Box<dyn Backend>,
}

/// All of them; the first is the usual one.
pub const BACKENDS: &[BackendSpec] = &[BackendSpec {
    name: "local",
    about: "processes on this machine",
    open: |program| Box::new(LocalBackend::new(program)),
}];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_backend_has_a_name_of_its_own_and_opens() {
        let names: BTreeSet<&str> = BACKENDS.iter().map(|spec| spec.name).collect();
        assert_eq!(names.len(), BACKENDS.len());
        for spec in BACKENDS {
            let mut backend = (spec.open)(PathBuf::from("lions"));
            assert_eq!(backend.poll(&[]).unwrap(), [], "{}", spec.name);
        }
    }
}
