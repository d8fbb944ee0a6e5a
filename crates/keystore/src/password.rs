//! Where passwords come from: a file that is named, a file or a value in the environment, or somebody at the terminal.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::{KeystoreError, Password};

/// The variable that names a file with the password: its first line.
pub const PASSWORD_FILE_ENV: &str = "MILLSTREAM_PASSWORD_FILE";
/// The variable that holds the password itself; a file is better, because a process's environment is read more easily.
pub const PASSWORD_ENV: &str = "MILLSTREAM_PASSWORD";

/// Where the password of a key file is looked for, the first that is there: the file that is named, [`PASSWORD_FILE_ENV`], [`PASSWORD_ENV`], and
/// the terminal.
#[derive(Clone, Debug, Default)]
pub struct Passwords {
    file: Option<PathBuf>,
    terminal_only: bool,
    #[cfg(test)]
    given: Option<Password>,
}

impl Passwords {
    /// From a file, or from the environment and the terminal.
    #[must_use]
    pub fn new(file: Option<&Path>) -> Self {
        Self { file: file.map(Path::to_owned), ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn given_in_test(password: &Password) -> Self {
        Self { given: Some(password.clone()), ..Self::default() }
    }

    /// From the terminal, whatever the environment says.
    #[must_use]
    pub fn terminal_only() -> Self {
        Self { terminal_only: true, ..Self::default() }
    }

    /// The password that opens `key_file`.
    ///
    /// # Errors
    /// [`KeystoreError::NoPassword`] or [`KeystoreError::Password`].
    pub fn open(&self, key_file: &Path) -> Result<Password, KeystoreError> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ask(&format!("Password of {}: ", key_file.display()), key_file),
        }
    }

    /// A password for a new keystore; at a terminal it is asked for twice.
    ///
    /// # Errors
    /// As [`Passwords::open`]; [`KeystoreError::Password`] also when the two differ, or when it is empty.
    pub fn choose(&self, key_file: &Path) -> Result<Password, KeystoreError> {
        let wrong = |detail: &str| KeystoreError::Password { from: "the terminal".to_owned(), detail: detail.to_owned() };
        let password = match self.given()? {
            Some(password) => password,
            None => {
                let password = ask(&format!("New password for {}: ", key_file.display()), key_file)?;
                if ask("The same again: ", key_file)?.as_bytes() != password.as_bytes() {
                    return Err(wrong("the two differ"));
                }
                password
            }
        };
        if password.is_empty() {
            return Err(KeystoreError::Password { from: "where it is given".to_owned(), detail: "it is empty".to_owned() });
        }
        Ok(password)
    }

    /// The password, where something gives it without anybody being asked.
    ///
    /// # Errors
    /// [`KeystoreError::Password`].
    pub fn given(&self) -> Result<Option<Password>, KeystoreError> {
        #[cfg(test)]
        if let Some(password) = &self.given {
            return Ok(Some(password.clone()));
        }
        if self.terminal_only {
            return Ok(None);
        }
        let named = self.file.clone().or_else(|| std::env::var_os(PASSWORD_FILE_ENV).filter(|file| !file.is_empty()).map(PathBuf::from));
        if let Some(file) = named {
            return of_file(&file).map(Some);
        }
        match std::env::var(PASSWORD_ENV) {
            Ok(text) => Ok(Some(Password::new(text.into_bytes()))),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(KeystoreError::Password { from: PASSWORD_ENV.to_owned(), detail: "it is not UTF-8".to_owned() })
            }
        }
    }
}

/// The first line of a file that only its owner can read, or that a service manager hands over.
fn of_file(file: &Path) -> Result<Password, KeystoreError> {
    use std::os::unix::fs::PermissionsExt;
    let wrong = |detail: String| KeystoreError::Password { from: file.display().to_string(), detail };
    let mode = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(format!("others can read it (mode {:o}): chmod 600 it", mode & 0o777)));
    }
    let bytes = Zeroizing::new(std::fs::read(file).map_err(|error| wrong(error.to_string()))?);
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Password::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
}

fn ask(prompt: &str, key_file: &Path) -> Result<Password, KeystoreError> {
    // Without somebody who reads the question there is nobody to answer it.
    if !std::io::stderr().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(KeystoreError::NoPassword { path: key_file.to_owned() });
    }
    let answer = rpassword::prompt_password(prompt);
    answer
        .map(|text| Password::new(text.into_bytes()))
        .map_err(|error| KeystoreError::Password { from: "the terminal".to_owned(), detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_a_private_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("password");
        for (text, expected) in [("a b \n", "a b "), ("x\r\nrest", "x"), ("alone", "alone")] {
            std::fs::write(&file, text).expect("written");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
            let password = Passwords::new(Some(&file)).open(Path::new("key")).expect(text);
            assert_eq!(password.as_bytes(), expected.as_bytes());
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("ours");
        let error = Passwords::new(Some(&file)).open(Path::new("key")).expect_err("readable by others");
        assert!(error.to_string().contains("mode 640"), "{error}");
        std::fs::write(&file, "\n").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
        assert!(Passwords::new(Some(&file)).choose(Path::new("key")).expect_err("empty").to_string().contains("empty"));
    }
}
