//! Where the anvil binary is.

use std::env;
use std::path::{Path, PathBuf};

use crate::AnvilError;

/// The environment variable that names the binary.
pub const ANVIL_ENV: &str = "MILLSTREAM_ANVIL";

/// Where npm puts the ready binary of the platform this was built for, below a repository that has `contracts/`.
fn npm_binary() -> PathBuf {
    let system = match env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let machine = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let name = format!("anvil{}", env::consts::EXE_SUFFIX);
    Path::new("contracts/node_modules/@foundry-rs").join(format!("anvil-{system}-{machine}")).join("bin").join(name)
}

/// Finds anvil: the variable [`ANVIL_ENV`], else `contracts/node_modules` upwards from the package being run and from the working
/// directory, else `PATH`.
///
/// # Errors
/// [`AnvilError::NotAFile`] when the variable names no file, [`AnvilError::NotFound`] with the places looked at.
pub fn find_anvil() -> Result<PathBuf, AnvilError> {
    let roots = [env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from), env::current_dir().ok()];
    search(env::var_os(ANVIL_ENV).map(PathBuf::from), &roots.map(Option::unwrap_or_default), env::var_os("PATH"))
}

fn search(named: Option<PathBuf>, roots: &[PathBuf], path: Option<std::ffi::OsString>) -> Result<PathBuf, AnvilError> {
    if let Some(path) = named {
        return if path.is_file() { Ok(path) } else { Err(AnvilError::NotAFile { path }) };
    }
    let npm = npm_binary();
    let below = roots
        .iter()
        .flat_map(|root| root.ancestors())
        .filter(|root| root.join("contracts").is_dir())
        .map(|root| root.join(&npm));
    let name = format!("anvil{}", env::consts::EXE_SUFFIX);
    let on_path: Vec<PathBuf> = path.iter().flat_map(env::split_paths).map(|dir| dir.join(&name)).collect();
    let mut searched = Vec::new();
    for candidate in below.chain(on_path) {
        if candidate.is_file() {
            return Ok(candidate);
        }
        if !searched.contains(&candidate) {
            searched.push(candidate);
        }
    }
    Err(AnvilError::NotFound { searched })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_variable_wins_and_must_name_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("mine");
        assert!(matches!(search(Some(file.clone()), &[], None), Err(AnvilError::NotAFile { .. })));
        fs::write(&file, "").expect("written");
        assert_eq!(search(Some(file.clone()), &[], None).expect("found"), file);
    }

    #[test]
    fn the_repository_is_searched_upwards_before_the_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let (package, bin) = (dir.path().join("crates/chain"), dir.path().join("bin"));
        let npm = dir.path().join(npm_binary());
        for file in [bin.join("anvil"), npm.clone()] {
            fs::create_dir_all(file.parent().expect("a parent")).expect("made");
            fs::write(file, "").expect("written");
        }
        fs::create_dir_all(&package).expect("made");
        let path = Some(bin.clone().into_os_string());
        assert_eq!(search(None, std::slice::from_ref(&package), path.clone()).expect("found"), npm);
        assert_eq!(search(None, &[], path).expect("found"), bin.join("anvil"));
    }

    #[test]
    fn a_missing_binary_says_how_to_get_one() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("contracts")).expect("made");
        let error = search(None, &[dir.path().to_owned()], None).expect_err("nothing there").to_string();
        for text in ["npm --prefix contracts ci", "MILLSTREAM_ANVIL", "node_modules"] {
            assert!(error.contains(text), "{error}");
        }
    }
}
