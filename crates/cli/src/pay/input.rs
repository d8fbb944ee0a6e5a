//! Payments as lines of text: `amount[,reference]`, amounts in whole tokens.

use std::io::{BufRead, BufReader, Read};

use millstream_billing::Line;
use millstream_types::{Amount, Reference};

use crate::error::{CliError, CliResult};
use crate::values;

/// Bytes of a line, at most: what is longer is no payment.
const LINE_BYTES_MAX: u64 = 1_024;

/// References for payments that come without one: eight bytes that are this run's own, then a count.
#[derive(Clone, Debug)]
pub struct References {
    prefix: [u8; 8],
    next: u64,
}

impl References {
    /// References that no other run has.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> CliResult<Self> {
        let mut prefix = [0; 8];
        getrandom::fill(&mut prefix).map_err(|error| CliError::failed("random", format!("no random bytes: {error}")))?;
        Ok(Self { prefix, next: 0 })
    }

    fn take(&mut self) -> Reference {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.prefix);
        bytes[8..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        Reference::from_bytes(bytes)
    }

    /// The next payment of `amount`.
    pub fn line(&mut self, amount: Amount) -> Line {
        Line { amount, reference: self.take(), digest: None }
    }
}

/// Payments read from text as it arrives.
pub struct LineReader<R> {
    source: BufReader<R>,
    number: u64,
    references: References,
}

impl<R: Read> LineReader<R> {
    /// Payments from `source`.
    pub fn new(source: R, references: References) -> Self {
        Self { source: BufReader::new(source), number: 0, references }
    }

    /// Waits for a payment, and takes those that have arrived with it, `max` at most; nothing at the end of the text.
    ///
    /// # Errors
    /// A line that is no payment; the message names it.
    pub fn next_batch(&mut self, max: usize) -> CliResult<Option<Vec<Line>>> {
        let mut batch = Vec::new();
        while batch.len() < max && (batch.is_empty() || self.source.buffer().contains(&b'\n')) {
            let mut text = Vec::new();
            self.number += 1;
            let read = self.source.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
            if read.map_err(|error| self.wrong(&error.to_string()))? == 0 {
                break;
            }
            let text = core::str::from_utf8(&text).map_err(|_| self.wrong("not text in UTF-8"))?.trim();
            if !text.is_empty() {
                let line = self.parse(text)?;
                batch.push(line);
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn parse(&mut self, text: &str) -> CliResult<Line> {
        let (amount, reference) = text.split_once(',').map_or((text, None), |(amount, reference)| (amount, Some(reference)));
        let amount = values::tokens(amount).map_err(|what| self.wrong(&what))?;
        match reference {
            Some(reference) => {
                let reference = values::reference(reference).map_err(|what| self.wrong(&what))?;
                Ok(Line { amount, reference, digest: None })
            }
            None => Ok(self.references.line(amount)),
        }
    }

    fn wrong(&self, what: &str) -> CliError {
        CliError::usage("input_line", format!("line {} of the input: {what}", self.number))
            .hint("each line is amount[,reference], such as 0.00000015")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, max: usize) -> CliResult<Vec<Vec<Line>>> {
        let mut reader = LineReader::new(text.as_bytes(), References { prefix: [7; 8], next: 0 });
        let mut batches = Vec::new();
        while let Some(batch) = reader.next_batch(max)? {
            batches.push(batch);
        }
        Ok(batches)
    }

    #[test]
    fn lines_become_payments() {
        let batches = read("0.00000015\r\n\n 1 , 0123456789abcdef0123456789abcdef\n0.5", 2).expect("payments");
        let payments: Vec<_> = batches.concat().iter().map(|line| (line.amount.units(), line.reference.to_string())).collect();
        let own = |count: u8| format!("0x{}{count:016x}", "07".repeat(8));
        let expected = [(150, own(0)), (1_000_000_000, "0x0123456789abcdef0123456789abcdef".to_owned()), (500_000_000, own(1))];
        assert_eq!(payments, expected);
        assert!(batches.iter().all(|batch| batch.len() <= 2));
        assert!(read("", 2).expect("nothing").is_empty());
    }

    #[test]
    fn a_wrong_line_is_named() {
        let check = |text: &str, expected: &str| {
            let error = read(text, 100).expect_err(text);
            assert!(error.message.starts_with(expected), "{}", error.message);
        };
        check("1\n\nx\n", "line 3 of the input: expected a decimal number");
        check("0\n", "line 1 of the input: the amount must be more than zero");
        check("1,zz\n", "line 1 of the input: expected a reference");
        check("1,\n", "line 1 of the input: expected a reference");
    }
}
