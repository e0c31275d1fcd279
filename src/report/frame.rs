//! A function in a stack, and the crate that is responsible for the memory of a stack.

/// The origin of code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "read", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Kind {
    /// The service's own workspace, or a crate that was configured as its own.
    Own,
    /// Another package: from a registry, a git repository, a vendor folder or a path elsewhere.
    Dependency,
    /// The standard library and its own dependencies.
    Std,
    /// A function whose name is not a Rust path.
    C,
    /// Code whose name is not known.
    #[default]
    Unknown,
}

/// A function and a location in its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Frame {
    /// The readable name without hashes, or `module+0xaddress` if there is no name.
    pub function: String,
    /// The source file. The path is relative to the workspace if the file is in it; otherwise the
    /// part that depends on the building machine is removed.
    pub file: Option<String>,
    /// The line in `file` of the call or of the allocation.
    pub line: Option<u32>,
    /// The crate, or the file name of the module for a C function; `None` if there is no name.
    #[cfg_attr(feature = "read", serde(rename = "crate"))]
    pub crate_name: Option<String>,
    /// Whether this is the service's own code.
    pub own: bool,
    /// The path of the executable or library.
    pub module: String,
    /// The address relative to the module, as in a dump.
    pub address: u64,
}

/// The crate that is responsible for the memory of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Blame {
    /// The crate that allocated, or the file name of the module for C code.
    #[cfg_attr(feature = "read", serde(rename = "crate"))]
    pub crate_name: Option<String>,
    /// The version of the crate, if the debug information tells it.
    pub version: Option<String>,
    /// The origin of the code.
    pub kind: Kind,
    /// The first frame of the service's own code, searched from the blamed frame outward.
    pub own_frame: Option<Frame>,
}
