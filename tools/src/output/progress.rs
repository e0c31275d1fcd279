//! A progress bar on standard error, drawn only if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that ends at `length` of `what`.
pub(crate) fn bar(length: usize, what: &str) -> ProgressBar {
    let template = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {what} {{elapsed}}");
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style)
}
