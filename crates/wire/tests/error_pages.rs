//! Every code has a page, and every page a code.

#![allow(clippy::disallowed_methods, reason = "a test that compares with a folder has to read it")]

use std::path::PathBuf;

use millstream_wire::ErrorCode;

#[test]
fn each_code_has_a_page_and_each_page_a_code() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let mut pages: Vec<String> = std::fs::read_dir(&folder)
        .expect("docs/errors")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("plain names"))
        .collect();
    pages.sort();
    let mut expected: Vec<String> = ErrorCode::ALL.into_iter().map(|code| format!("{}-{}.md", code.number(), code.name())).collect();
    expected.sort();
    assert_eq!(pages, expected);

    for code in ErrorCode::ALL {
        let name = format!("{}-{}.md", code.number(), code.name());
        let text = std::fs::read_to_string(folder.join(&name)).expect("a page");
        assert!(text.starts_with(&format!("# {} {}\n", code.number(), code.name())), "{name}: title");
        for section in ["**Means.**", "**Who acts.**", "**What to do.**"] {
            assert!(text.contains(section), "{name}: no {section}");
        }
    }
}
