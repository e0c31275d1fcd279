//! Stub, replaced by the branch of names.
use super::report::Namer;
use crate::blame::{Blame, Frame};

#[derive(Debug, Default)]
pub(crate) struct Symbols {
    known: std::collections::HashMap<u64, Vec<Frame>>,
}

impl Symbols {
    pub(crate) fn new(_own: Vec<String>) -> Self {
        Self::default()
    }
}

impl Namer for Symbols {
    fn name(&mut self, address: u64) -> Vec<Frame> {
        self.known
            .entry(address)
            .or_insert_with(|| {
                let mut frames = Vec::new();
                #[cfg(feature = "profiling")]
                backtrace::resolve(address as *mut _, |symbol| {
                    let function = symbol.name().map_or(String::new(), |name| format!("{name:#}"));
                    frames.push(Frame {
                        crate_name: function.split("::").next().map(str::to_owned),
                        function,
                        file: symbol.filename().map(|file| file.display().to_string()),
                        line: symbol.lineno(),
                        ..Frame::default()
                    });
                });
                frames
            })
            .clone()
    }
    fn blame(&mut self, _frames: &[Frame]) -> Blame {
        Blame::default()
    }
    fn machinery(&self, frames: &[Frame]) -> usize {
        frames
            .iter()
            .take_while(|frame| {
                let f = frame.function.trim_start_matches(['<', '&']);
                ["heapdrift::", "alloc::", "core::", "std::", "hashbrown::", "__r"]
                    .iter()
                    .any(|p| f.starts_with(p))
                    || f.is_empty()
            })
            .count()
    }
}
