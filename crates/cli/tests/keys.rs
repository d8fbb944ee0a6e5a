//! Keys as an operator makes, moves and uses them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A directory with keys, and passwords in files.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: TempDir::new().expect("a directory") };
        desk.private("first", "correct horse");
        desk.private("second", "battery staple");
        desk
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn private(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    }

    fn run(&self, line: &str) -> (i32, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(line.split_whitespace())
            .current_dir(self.path())
            .env("MILLSTREAM_KEYSTORE", "keys")
            .env_remove("MILLSTREAM_PASSWORD")
            .env_remove("MILLSTREAM_PASSWORD_FILE")
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let status = output.status.code().expect("a status");
        let text = String::from_utf8(if status == 0 { output.stdout } else { output.stderr }).expect("text");
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error} in {text}")))
    }

    fn done(&self, line: &str) -> Value {
        let (status, answer) = self.run(line);
        assert_eq!(status, 0, "{line}: {answer}");
        answer
    }

    fn refused(&self, line: &str, word: &str) {
        let (status, answer) = self.run(line);
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(status == 2 && message.contains(word), "{line}: {status} {answer}");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).expect("text")
    }
}

#[test]
fn a_key_lives_encrypted_from_its_making_to_its_end() {
    let desk = Desk::new();
    assert_eq!(desk.done("key list"), Value::Array(Vec::new()));
    let made = desk.done("key new operator --password-file first");
    let account = made["account"].as_str().expect("an account").to_owned();
    assert_eq!((&made["kept"], &made["for"]), (&"encrypted".into(), &"account".into()), "{made}");
    let file = desk.path().join("keys/operator.json");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(desk.path().join("keys")).expect("there").permissions().mode() & 0o777, 0o700);
    desk.refused("key new operator --password-file first", "already");
    desk.refused("key new ../operator --password-file first", "letters, digits");

    // Nobody to ask, a wrong password, and one that others can read.
    desk.refused("key export operator --plain --out out", "nothing gives its password");
    desk.refused("key export operator --plain --out out --password-file second", "does not open");
    std::fs::set_permissions(desk.path().join("second"), std::fs::Permissions::from_mode(0o644)).expect("ours");
    desk.refused("key export operator --plain --out out --password-file second", "others can read it");
    desk.private("second", "battery staple");
    assert!(!desk.path().join("out").exists());

    // Another password, then out in the open and back in under another name: the same account all along.
    desk.done("key password operator --password-file first --new-password-file second");
    desk.refused("key export operator --plain --out out --password-file first", "does not open");
    desk.done("key export operator --plain --out out --password-file second");
    assert_eq!(desk.text("out").trim().len(), 64);
    assert!(!desk.text("keys/operator.json").contains(desk.text("out").trim()));
    let imported = desk.done("key import copy --from out --password-file first");
    assert_eq!(imported["account"], account.as_str());
    desk.done("key export copy --out copy.json --password-file first --new-password-file second");
    let again = desk.done("key import again --from copy.json --from-password-file second --password-file first");
    assert_eq!(again["account"], account.as_str());

    // A new key takes its place; the old one stays beside it.
    let rotated = desk.done("key rotate operator --password-file first");
    assert_ne!(rotated["account"], account.as_str());
    assert!(rotated["earlier"].as_str().expect("kept").ends_with("operator.1.json"), "{rotated}");
    let listed = desk.done("key list");
    let row = |name: &str| listed.as_array().expect("rows").iter().find(|row| row["name"] == name).expect(name)["account"].clone();
    assert_eq!((row("operator.1"), row("operator")), (account.as_str().into(), rotated["account"].clone()));
}

#[test]
fn keys_of_vouchers_and_of_remote_signers_are_not_taken_for_others() {
    let desk = Desk::new();
    let voucher = desk.done("key new agent --for voucher --password-file first");
    assert_eq!(voucher["for"], "voucher");
    let remote = "key remote far --signer http://127.0.0.1:9000 --account 0x00000000000000000000000000000000000000aa";
    assert_eq!(desk.done(remote)["kept"], "remote");
    desk.refused(
        "key remote leak --signer http://user:pass@127.0.0.1:9000 --account 0x00000000000000000000000000000000000000aa",
        "credential",
    );
    desk.refused("key export far --plain --out out", "remote signer");
    desk.refused("key rotate far --password-file first", "remote signer");
    // What pays takes no key of vouchers.
    let pay = "payments refund 0x5f3a --key-file keys/agent.json --book book.redb";
    std::fs::write(desk.path().join("millstream.toml"), "[chain]\nrpc_url = \"http://127.0.0.1:1\"\n[payer]\nstate_file = \"s\"\n")
        .expect("written");
    desk.refused(pay, "is for voucher");
}
