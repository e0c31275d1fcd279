//! A function in a stack, and who is responsible for the memory of a stack.

/// Where code comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[cfg_attr(feature = "analysis", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Kind {
    /// The service's workspace, or a crate that was configured as its own.
    Own,
    /// Another package: from a registry, a git repository, a vendor folder or a path elsewhere.
    Dependency,
    /// The standard library and its own dependencies.
    Std,
    /// A function without a Rust path.
    C,
    /// Code without a name.
    #[default]
    Unknown,
}

/// A function at a place in its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Frame {
    /// The readable name without hashes, or `module+0xaddress` if there is none.
    pub function: String,
    /// The source file: relative to the workspace if it lies in it, otherwise without the part of
    /// the path that only says where it was built.
    pub file: Option<String>,
    /// The line in `file` of the call, or of the allocation.
    pub line: Option<u32>,
    /// The crate; for a C function the file name of its module; `None` if there is no name.
    #[cfg_attr(feature = "analysis", serde(rename = "crate"))]
    pub crate_name: Option<String>,
    /// Whether this is the service's own code.
    pub own: bool,
    /// The path of the executable or library.
    pub module: String,
    /// The address relative to the module, as in a dump.
    pub address: u64,
}

/// Who is responsible for the memory of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Blame {
    /// The crate that allocated; for C code the file name of its module.
    #[cfg_attr(feature = "analysis", serde(rename = "crate"))]
    pub crate_name: Option<String>,
    /// Its version, if the binary or its sources give it.
    pub version: Option<String>,
    /// Where its code comes from.
    pub kind: Kind,
    /// The innermost frame of the service's own code, starting at the blamed frame and going
    /// outward.
    pub own_frame: Option<Frame>,
}
