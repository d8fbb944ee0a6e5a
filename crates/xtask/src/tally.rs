//! Counting tests from the lines that test runners print.

use std::fmt;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, and parts that ended badly without saying which test did.
    pub failed: u64,
}

impl Tally {
    /// Adds what a line of cargo test or forge says, if it is a closing line of theirs.
    ///
    /// - `test result: ok. 12 passed; 0 failed; …`, one per test binary;
    /// - `Ran 3 test suites in 1.2s: 25 tests passed, 0 failed, …`, one per run.
    pub fn read_line(&mut self, line: &str) {
        let plain = without_colours(line);
        let plain = plain.trim_start();
        if plain.starts_with("test result:")
            || (plain.starts_with("Ran ") && plain.contains(" test suite") && plain.contains(" total tests"))
        {
            self.passed += number_before(plain, &[" passed", " tests passed", " test passed"]);
            self.failed += number_before(plain, &[" failed", " tests failed", " test failed"]);
        }
    }

    /// Counts a part that is one check, not a list of tests.
    pub fn check(&mut self, succeeded: bool) {
        if succeeded { self.passed += 1 } else { self.failed += 1 }
    }

    /// Counts the failure of a part that reported no failed test since `before`, a compilation error for example.
    pub fn settle(&mut self, before: Self, succeeded: bool) {
        if !succeeded && self.failed == before.failed {
            self.failed += 1;
        }
    }

    /// Whether nothing failed, and there was something to run.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The number directly before the first of `words` that has one.
fn number_before(line: &str, words: &[&str]) -> u64 {
    let number = |word: &&str| {
        let before = &line[..line.find(*word)?];
        let digits = before.rsplit(|character: char| !character.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    words.iter().find_map(number).unwrap_or(0)
}

/// The line without terminal escapes (`ESC [ … letter`).
fn without_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| character.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        plain.push_str(&part[end..]);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn closing_lines_of_both_runners_are_counted_and_others_are_not() {
        for (line, passed, failed) in [
            ("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s", 12, 0),
            ("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", 3, 2),
            ("test result: \u{1b}[32mok\u{1b}[m. 4 passed; 0 failed; 0 ignored", 4, 0),
            ("Ran 3 test suites in 1.20s (2.00s CPU time): 25 tests passed, 1 failed, 0 skipped (26 total tests)", 25, 1),
            (
                "\u{1b}[0mRan 1 test suite in 5ms: \u{1b}[32m7\u{1b}[0m tests passed, \u{1b}[31m0\u{1b}[0m failed, 0 skipped (7 total tests)",
                7,
                0,
            ),
            ("Ran 9 tests for test/Ledger.t.sol:LedgerTest", 0, 0),
            ("Suite result: ok. 9 passed; 0 failed; 0 skipped", 0, 0),
            ("running 12 tests", 0, 0),
            ("test the_result_is_12_passed ... ok", 0, 0),
        ] {
            let mut tally = Tally::default();
            tally.read_line(line);
            assert_eq!(tally, Tally { passed, failed }, "{line}");
        }
    }

    #[test]
    fn a_part_that_ends_badly_counts_once() {
        let mut tally = Tally { passed: 5, failed: 0 };
        tally.settle(tally, false);
        assert_eq!(tally.to_string(), "5 passed, 1 failed");
        let before = tally;
        tally.failed += 2;
        tally.settle(before, false);
        assert_eq!(tally.failed, 3);
        assert!(!tally.is_green() && !Tally::default().is_green() && Tally { passed: 1, failed: 0 }.is_green());
    }
}
