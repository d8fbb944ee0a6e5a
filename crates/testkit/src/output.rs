//! What the process writes: drained for ever so that it never blocks, the last lines kept for error messages.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Lines kept.
const LINES_MAX: usize = 60;
/// The line by which anvil names its port.
const LISTENING: &str = "Listening on ";

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    address: Option<String>,
    open_streams: usize,
}

/// The shared tail of one process's output.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<(Mutex<State>, Condvar)>);

/// What the output said about the listening address.
pub(crate) enum Listening {
    Address(String),
    Ended,
    TimedOut,
}

impl Output {
    /// Reads a stream to its end on a thread of its own.
    pub(crate) fn drain(&self, stream: impl Read + Send + 'static) {
        let output = self.clone();
        output.update(|state| state.open_streams += 1);
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
                output.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            output.update(|state| state.open_streams -= 1);
        });
    }

    /// Waits until the process named its address, ended, or the deadline passed.
    pub(crate) fn wait_for_address(&self, deadline: Instant) -> Listening {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(address) = &state.address {
                return Listening::Address(address.clone());
            }
            if state.open_streams == 0 {
                return Listening::Ended;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Listening::TimedOut;
            }
            state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn push(&self, line: String) {
        self.update(|state| {
            if let Some(address) = line.strip_prefix(LISTENING) {
                state.address = Some(address.trim().to_owned());
            }
            if state.lines.len() == LINES_MAX {
                state.lines.pop_front();
            }
            state.lines.push_back(line);
        });
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let (state, changed) = &*self.0;
        change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_address_is_found_and_the_tail_is_bounded() {
        let output = Output::default();
        let many: String = (0..200).map(|line| format!("line {line}\n")).collect();
        output.drain(std::io::Cursor::new(format!("{many}Listening on 127.0.0.1:1234\n")));
        let deadline = Instant::now() + Duration::from_secs(10);
        assert!(matches!(output.wait_for_address(deadline), Listening::Address(address) if address == "127.0.0.1:1234"));
        assert_eq!(output.tail().lines().count(), LINES_MAX);
    }

    #[test]
    fn a_process_that_ends_is_not_waited_for() {
        let output = Output::default();
        output.drain(std::io::Cursor::new("bad argument\n"));
        let deadline = Instant::now() + Duration::from_secs(10);
        assert!(matches!(output.wait_for_address(deadline), Listening::Ended));
        assert_eq!(output.tail(), "bad argument");
    }
}
