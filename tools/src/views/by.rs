//! What the rows of a table are, and which row each stack and frame belongs to.

use std::borrow::Cow;
use std::str::FromStr;

use crate::heap::fold;
use crate::heap::symbolized::{Frame, Stack, Symbolized};

/// What each row of a table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// A function, with all of its lines.
    #[default]
    Function,
    /// A crate, or a module of another language.
    Crate,
    /// A line of source.
    Line,
    /// A whole stack with its labels in folded form: root first, separated by `;`.
    Stack,
    /// A value of the label with this key. Self and total are equal then.
    Label(String),
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "function" => Ok(Self::Function),
            "crate" => Ok(Self::Crate),
            "line" => Ok(Self::Line),
            "stack" => Ok(Self::Stack),
            _ => match text.strip_prefix("label:") {
                Some(key) if !key.is_empty() => Ok(Self::Label(key.to_owned())),
                _ => Err("expected function, crate, line, stack or label:KEY".into()),
            },
        }
    }
}

impl By {
    /// The heading of the column of names.
    pub(super) fn title(&self) -> &str {
        match self {
            Self::Function => "function",
            Self::Crate => "crate",
            Self::Line => "line",
            Self::Stack => "stack",
            Self::Label(key) => key,
        }
    }
}

/// For each stack, the name of the row whose self it counts for.
pub(super) fn sites<'a>(heap: &'a Symbolized, by: &By) -> Vec<Cow<'a, str>> {
    match by {
        By::Function | By::Crate | By::Line => {
            let names: Vec<Cow<'a, str>> = heap.frames.iter().map(|f| of_frame(f, by)).collect();
            let leaf = |stack: &Stack| stack.frames.first().copied();
            let stacks = heap.stacks.iter();
            stacks.map(|s| leaf(s).map_or("".into(), |f| names[f as usize].clone())).collect()
        }
        By::Stack => {
            let names: Vec<Cow<'_, str>> =
                heap.frames.iter().map(|f| fold::escape(&f.function)).collect();
            let labels: Vec<String> = heap.label_sets.iter().map(fold::label_frames).collect();
            heap.stacks.iter().map(|stack| fold::fold(stack, &names, &labels).into()).collect()
        }
        By::Label(key) => {
            let value = |stack: &Stack| heap.label_sets[stack.labels as usize].get(key);
            let stacks = heap.stacks.iter();
            stacks
                .map(|s| value(s).map_or_else(|| format!("(no {key})").into(), |v| v.into()))
                .collect()
        }
    }
}

/// The name of the row that a frame belongs to.
pub(super) fn of_frame<'a>(frame: &'a Frame, by: &By) -> Cow<'a, str> {
    match by {
        By::Crate => frame.krate.as_str().into(),
        By::Line => frame.place().into(),
        _ => frame.function.as_str().into(),
    }
}
