//! A function in a stack, and who answers for the memory of a stack.

/// Where code comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "read", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Kind {
    /// The service's workspace, or a crate that was named as its own.
    Own,
    /// Another package: from a registry, a git repository, a vendor folder or a path elsewhere.
    Dependency,
    /// The standard library, and what it is made of.
    Std,
    /// A function without a Rust path.
    C,
    /// Code without a name.
    #[default]
    Unknown,
}

/// A function at a place in its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Frame {
    /// Readable name, without hashes; `module+0xaddress` where there is none.
    pub function: String,
    /// Source file: relative to the workspace if it is in there, otherwise without the parts that
    /// only say where it was built.
    pub file: Option<String>,
    /// Line in `file`: of the call, or of the allocation.
    pub line: Option<u32>,
    /// The crate; of a C function the file name of its module; `None` where there is no name.
    #[cfg_attr(feature = "read", serde(rename = "crate"))]
    pub crate_name: Option<String>,
    /// Whether this is the service's own code.
    pub own: bool,
    /// Path of the executable or library.
    pub module: String,
    /// Address relative to the module, as in a dump.
    pub address: u64,
}

/// Who answers for the memory of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Blame {
    /// The crate that allocated; of C code the file name of its module.
    #[cfg_attr(feature = "read", serde(rename = "crate"))]
    pub crate_name: Option<String>,
    /// Its version, where the binary or its sources tell.
    pub version: Option<String>,
    /// Where its code comes from.
    pub kind: Kind,
    /// The innermost frame of the service's own code at the blamed one or around it.
    pub own_frame: Option<Frame>,
}
