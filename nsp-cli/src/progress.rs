//! How far a long transfer is, shown on standard error to who looks at it.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// From how many bytes on a transfer is long.
pub const LONG: u64 = 256 << 10;

/// Whether anybody would see it.
#[must_use]
pub fn is_seen() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar for so many bytes; nothing where nobody would see it. When it is dropped it is gone from the screen.
#[must_use]
pub fn bar(doing: &str, total: u64) -> ProgressBar {
    if !is_seen() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total).with_message(doing.to_owned()).with_finish(ProgressFinish::AndClear);
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Something that turns, where it is not known how much there is to do. When it is dropped it is gone from the screen.
#[must_use]
pub fn spinner(doing: &str) -> ProgressBar {
    if !is_seen() {
        return ProgressBar::hidden();
    }
    ProgressBar::new_spinner().with_message(doing.to_owned()).with_finish(ProgressFinish::AndClear)
}
