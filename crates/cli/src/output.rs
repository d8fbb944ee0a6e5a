//! How results reach people and programs: a table on a terminal, one JSON document otherwise.

use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::error::{CliError, CliResult};

/// How standard output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

/// A command's result.
pub trait View: Serialize {
    /// The form for people, without a newline at the end.
    fn table(&self) -> String;
}

/// Where results, notes and errors go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
    quiet: bool,
    stderr_is_terminal: bool,
}

impl Output {
    /// JSON when asked for, or when standard output is no terminal.
    #[must_use]
    pub fn detect(json: bool, quiet: bool) -> Self {
        let format = if json || !io::stdout().is_terminal() { Format::Json } else { Format::Table };
        Self { format, quiet, stderr_is_terminal: io::stderr().is_terminal() }
    }

    /// The form of results.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether progress is drawn: on standard error, when it is a terminal, unless `--quiet`.
    #[must_use]
    pub const fn draws_progress(&self) -> bool {
        self.stderr_is_terminal && !self.quiet
    }

    /// Prints a result.
    ///
    /// # Errors
    /// Standard output cannot be written. A reader that has gone is no error.
    pub fn show(&self, view: &impl View) -> CliResult<()> {
        print_line(&render(view, self.format)?)
    }

    /// Prints text as it is: a result whose form was asked for.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn text(&self, text: &str) -> CliResult<()> {
        print_line(text.trim_end_matches('\n'))
    }

    /// Prints a value as one line of JSON, for whoever started this process to read.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn line(&self, value: &impl Serialize) -> CliResult<()> {
        let text = serde_json::to_string(value).map_err(|error| CliError::failed("output", format!("cannot write JSON: {error}")))?;
        print_line(&text)
    }

    /// Says something by the way on standard error: for people only, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet && self.format == Format::Table {
            // Nobody reads standard error: there is nobody to tell.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Reports a failure on standard error.
    pub fn fail(&self, error: &CliError) {
        let text = match (self.format, &error.hint) {
            (Format::Json, _) => error.to_json(),
            (Format::Table, Some(hint)) => format!("error: {}\n hint: {hint}", error.message),
            (Format::Table, None) => format!("error: {}", error.message),
        };
        // Nobody reads standard error: the exit status still tells.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// The text of a result in a form, without a newline at the end.
///
/// # Errors
/// The result does not serialise.
pub fn render(view: &impl View, format: Format) -> CliResult<String> {
    match format {
        Format::Table => Ok(view.table()),
        Format::Json => {
            serde_json::to_string_pretty(view).map_err(|error| CliError::failed("output", format!("cannot write JSON: {error}")))
        }
    }
}

fn print_line(text: &str) -> CliResult<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed("output", format!("cannot write to standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A table with a header row and no frame; the columns named in `right` are flushed right.
#[must_use]
pub fn columns(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        // Two spaces between columns, none at the margin.
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    trimmed(&table)
}

/// Names and values, one pair a line.
#[must_use]
pub fn pairs(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_no_frame_and_no_trailing_space() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "12.5".to_owned()]];
        assert_eq!(columns(&["name", "sum"], &[1], rows), "NAME   SUM\na        1\nlong  12.5");
        assert_eq!(pairs([("chain", "1".to_owned()), ("x", "2".to_owned())]), "chain  1\nx      2");
    }
}
