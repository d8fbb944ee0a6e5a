//! Progress on standard error: only when it is a terminal, and never with `--quiet`.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// A spinner with a message, or nothing at all.
#[must_use]
pub fn spinner(output: &Output, message: impl Into<Cow<'static, str>>) -> ProgressBar {
    if !output.draws_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(TURN);
    bar
}

/// A bar of `length` payments whose message the caller keeps up to date, or nothing at all.
#[must_use]
pub fn payments(output: &Output, length: u64) -> ProgressBar {
    if !output.draws_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    // The template is ours; the plain bar stands in for one that does not parse.
    let style = ProgressStyle::with_template("{bar:24} {human_pos}/{human_len} payments, {eta}  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// A bar of `length` things that are counted, or nothing at all.
#[must_use]
pub fn counted(output: &Output, length: u64, what: &'static str) -> ProgressBar {
    if !output.draws_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_message(what);
    // The template is ours; the plain bar stands in for one that does not parse.
    let style = ProgressStyle::with_template("{bar:24} {human_pos}/{human_len} {msg}, {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
