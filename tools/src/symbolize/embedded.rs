//! The names that a dump itself has: a table of the functions at each of its addresses.

use std::collections::HashMap;

use heapdrift::Snapshot;
use heapdrift::snapshot::{Function, Symbols};

use crate::heap::symbolized::Frame;
use crate::intern::intern;

/// For each address of a snapshot, the functions that the dump itself names.
pub(crate) fn embedded_frames(snapshot: &Snapshot) -> impl Iterator<Item = Option<Vec<Frame>>> {
    let symbols = snapshot.frames.symbols.as_ref();
    let mut of_frames = symbols.map(|symbols| (symbols, symbols.of_frames()));
    (0..snapshot.frames.address.len()).map(move |_| {
        let (symbols, of_frames) = of_frames.as_mut()?;
        let functions = of_frames.next().filter(|functions| !functions.is_empty())?;
        Some(functions.iter().map(|&f| Frame::from(&symbols.functions[f as usize])).collect())
    })
}

impl From<&Function> for Frame {
    fn from(function: &Function) -> Self {
        Self {
            function: function.name.clone(),
            krate: function.crate_name.clone(),
            file: function.file.clone(),
            line: function.line,
        }
    }
}

impl From<&Frame> for Function {
    fn from(frame: &Frame) -> Self {
        let mut function = Self::default();
        function.name = frame.function.clone();
        function.crate_name = frame.krate.clone();
        function.file = frame.file.clone();
        function.line = frame.line;
        function
    }
}

/// The table of the functions at each of several addresses.
pub(super) fn symbol_table<'a>(frames: impl Iterator<Item = &'a [Frame]>) -> Symbols {
    let mut symbols = Symbols::default();
    let mut index = HashMap::new();
    for there in frames {
        symbols.count.push(there.len() as u32);
        for frame in there {
            let function = intern(&mut index, &mut symbols.functions, Function::from(frame));
            symbols.function.push(function);
        }
    }
    symbols
}
