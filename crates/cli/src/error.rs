//! What a command ends with when it does not succeed: a stable exit status, a stable code, a message, and what to do next.

use std::fmt;

use serde::Serialize;

/// Why a command ended. The numbers are the process's exit statuses; they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did not work, and none of the others says why.
    Failed = 1,
    /// The command line, the profile or an input is wrong.
    Usage = 2,
    /// The provider, the chain or a policy said no; the same again gets the same answer.
    Refused = 3,
    /// Somebody did not answer, or not yet; the same again can succeed.
    Unavailable = 4,
    /// A check came out negative: a proof does not hold, or totals differ.
    CheckFailed = 5,
}

/// The exit statuses, as `--help` prints them.
pub const EXIT_STATUS_HELP: &str = "\
Exit status:
  0  success
  1  failed
  2  usage: the command line, the profile or an input is wrong
  3  refused by the provider, the chain or a policy; trying again does not help
  4  unavailable: somebody did not answer, or not yet; trying again can help
  5  a check came out negative";

impl Exit {
    /// The process's exit status.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unavailable => 4,
            Self::CheckFailed => 5,
        }
    }
}

/// A command's failure. JSON: `{"error": {"code", "message", "hint"}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    /// The kind, hence the exit status.
    pub exit: Exit,
    /// A stable word for programs, such as `profile_missing`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// What a command returns.
pub type CliResult<T> = Result<T, CliError>;

#[derive(Serialize)]
struct Document<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl CliError {
    /// An error of a kind.
    pub fn new(exit: Exit, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { exit, code: code.into(), message: message.into(), hint: None }
    }

    /// [`Exit::Failed`].
    pub fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, message)
    }

    /// [`Exit::Usage`].
    pub fn usage(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, code, message)
    }

    /// [`Exit::Refused`].
    pub fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, code, message)
    }

    /// [`Exit::Unavailable`].
    pub fn unavailable(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, code, message)
    }

    /// [`Exit::CheckFailed`].
    pub fn check_failed(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::CheckFailed, code, message)
    }

    /// The same error with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The JSON document for standard error.
    #[must_use]
    pub fn to_json(&self) -> String {
        let error = Body { code: &self.code, message: &self.message, hint: self.hint.as_deref() };
        // Three strings always serialise.
        serde_json::to_string(&Document { error }).unwrap_or_default()
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// A chain of causes on one line, each named once.
#[must_use]
pub fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::failed("failed", format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_json_object() {
        let error = CliError::usage("profile_missing", "no profile").hint("pass --profile");
        let expected = r#"{"error":{"code":"profile_missing","message":"no profile","hint":"pass --profile"}}"#;
        assert_eq!(error.to_json(), expected);
        assert_eq!(CliError::failed("failed", "x").to_json(), r#"{"error":{"code":"failed","message":"x"}}"#);
    }

    #[test]
    fn a_typed_error_survives_the_way_through_anyhow() {
        let error = CliError::check_failed("proof_does_not_hold", "no");
        assert_eq!(CliError::from(anyhow::Error::from(error.clone())), error);
        assert_eq!(CliError::from(anyhow::anyhow!("inner").context("outer")).message, "outer: inner");
    }

    #[test]
    fn exit_statuses_are_what_the_help_says() {
        for exit in [Exit::Failed, Exit::Usage, Exit::Refused, Exit::Unavailable, Exit::CheckFailed] {
            assert!(EXIT_STATUS_HELP.contains(&format!("\n  {}  ", exit.status())), "{exit:?}");
        }
    }
}
