//! Files and folders that a recipe names, each kind a type of its own: an identity holds the content
//! of what a value of these types names, whatever the field is called.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;
use std::path::Path;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// A [`DataFile`].
    Data,
    /// A [`TextFile`].
    Text,
    /// A [`ModelDir`].
    Model,
}

macro_rules! path_types {
    ($($(#[$doc:meta])* $name:ident is $kind:ident;)*) => {
        impl PathKind {
            /// The kind of a type by its name in serde's data model.
            pub fn of_type(name: &str) -> Option<Self> {
                $(if name == stringify!($name) {
                    return Some(Self::$kind);
                })*
                None
            }
        }

        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
            pub struct $name(String);

            impl Deref for $name {
                type Target = str;

                fn deref(&self) -> &str {
                    &self.0
                }
            }

            impl AsRef<Path> for $name {
                fn as_ref(&self) -> &Path {
                    Path::new(&self.0)
                }
            }

            impl<T: Into<String>> From<T> for $name {
                fn from(path: T) -> Self {
                    Self(path.into())
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }
        )*
    };
}

path_types! {
    /// A data file (JSON lines, a JSON list, either perhaps compressed, or Parquet), relative to the project root.
    DataFile is Data;
    /// A text file that is read as it is, relative to the project root.
    TextFile is Text;
    /// A folder in Hugging Face layout, relative to the project root.
    ModelDir is Model;
}
