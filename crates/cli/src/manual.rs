//! `millstream completions` and `millstream man`: made from the command line itself, so that they never say something else.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use serde::Serialize;

use crate::context::Context;
use crate::document::write_file;
use crate::error::{CliError, CliResult};
use crate::examples;
use crate::output::View;

/// `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The command whose page is printed; without one, that of millstream itself
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub directory: Option<PathBuf>,
}

/// The result of `man --directory`.
#[derive(Serialize)]
struct Written {
    directory: PathBuf,
    pages: Vec<String>,
}

impl View for Written {
    fn table(&self) -> String {
        format!("{} pages in {}", self.pages.len(), self.directory.display())
    }
}

/// Prints the completions of a shell.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(args: &CompletionsArgs) -> CliResult<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut examples::command(), "millstream", &mut script);
    print(&script)
}

/// Prints a manual page, or writes all of them.
///
/// # Errors
/// There is no such command, or nothing can be written there.
pub fn man(context: &Context, args: &ManArgs) -> CliResult<()> {
    let mut root = examples::command();
    // Gives each command its whole name, and the flags that it inherits.
    root.build();
    if let Some(directory) = &args.directory {
        let mut pages = Vec::new();
        std::fs::create_dir_all(directory)
            .map_err(|error| CliError::failed("output", format!("cannot write {}: {error}", directory.display())))?;
        write_all(&root, directory, &mut pages)?;
        return context.output.show(&Written { directory: directory.clone(), pages });
    }
    let mut command = &root;
    for word in &args.command {
        let sub = command.get_subcommands().find(|sub| sub.get_name() == word);
        let unknown = || CliError::usage("usage", format!("there is no command `millstream {}`", args.command.join(" ")));
        command = sub.ok_or_else(|| unknown().hint("see `millstream help`"))?;
    }
    print(&page(command)?)
}

/// The page of a command that was built, in roff.
fn page(command: &Command) -> CliResult<Vec<u8>> {
    let mut roff = Vec::new();
    let man = Man::new(command.clone()).source(concat!("millstream ", env!("CARGO_PKG_VERSION")));
    man.render(&mut roff).map_err(|error| CliError::failed("output", format!("cannot make the page: {error}")))?;
    Ok(roff)
}

/// The page's name: `millstream-gateway-claim`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn write_all(command: &Command, directory: &Path, pages: &mut Vec<String>) -> CliResult<()> {
    let file = format!("{}.1", name(command));
    write_file(&directory.join(&file), &page(command)?)?;
    pages.push(file);
    command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        .try_for_each(|sub| write_all(sub, directory, pages))
}

fn print(bytes: &[u8]) -> CliResult<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed("output", format!("cannot write to standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
