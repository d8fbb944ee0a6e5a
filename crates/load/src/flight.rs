//! What is due, sent and acknowledged on one channel.

use std::collections::VecDeque;

/// The frames of one channel, by their positions. Times are nanoseconds from the start of the run.
///
/// A frame has a time from which its latency counts: the time it was meant to be sent at, or, in a closed loop, was sent at.
#[derive(Debug)]
pub(crate) struct Flights {
    window: u64,
    sent: u64,
    acked: u64,
    /// Of each frame that is sent and not acknowledged.
    starts: VecDeque<u64>,
    /// Frames before this position had to wait for the window.
    held: u64,
}

/// What became of frames as they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Frames that had waited for an acknowledgement of earlier ones, as the node's window demands.
    pub(crate) held: u64,
    /// Frames that nothing but the load generator itself had kept, for longer than is forgiven.
    pub(crate) late: u64,
    /// The longest that the load generator itself kept a frame, in nanoseconds.
    pub(crate) worst: u64,
}

impl Flights {
    /// A channel with at most `window` frames under way.
    pub(crate) fn new(window: u64) -> Self {
        Self { window, sent: 0, acked: 0, starts: VecDeque::new(), held: 0 }
    }

    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) const fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether anything is under way.
    pub(crate) const fn is_idle(&self) -> bool {
        self.sent == self.acked
    }

    /// How many of the `due` frames may be sent now; notes which of them cannot.
    pub(crate) fn sendable(&mut self, due: u64) -> u64 {
        let open = self.acked.saturating_add(self.window);
        if due > open {
            self.held = self.held.max(due);
        }
        due.min(open).saturating_sub(self.sent)
    }

    /// Sends `count` frames at `now`; `start` says from when a frame's latency counts, and `counts` whether it is looked at.
    pub(crate) fn send(&mut self, count: u64, now: u64, forgiven: u64, start: impl Fn(u64) -> u64, counts: impl Fn(u64) -> bool) -> Sent {
        let mut outcome = Sent::default();
        for frame in self.sent..self.sent.saturating_add(count) {
            let start = start(frame);
            self.starts.push_back(start);
            if !counts(start) {
                continue;
            }
            if frame < self.held {
                outcome.held += 1;
                continue;
            }
            let lateness = now.saturating_sub(start);
            outcome.late += u64::from(lateness > forgiven);
            outcome.worst = outcome.worst.max(lateness);
        }
        self.sent = self.sent.saturating_add(count);
        outcome
    }

    /// Takes an acknowledgement of all frames before a position, and tells the start of each that is new. False when so many were never
    /// sent, or more were acknowledged before.
    pub(crate) fn ack(&mut self, frames: u64, mut record: impl FnMut(u64)) -> bool {
        if frames > self.sent || frames < self.acked {
            return false;
        }
        let new = usize::try_from(frames - self.acked).unwrap_or(usize::MAX);
        self.starts.drain(..new.min(self.starts.len())).for_each(&mut record);
        self.acked = frames;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;
    use crate::stats::Recorder;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn the_window_holds_frames_back_and_acks_open_it() {
        let mut flights = Flights::new(4);
        assert_eq!(flights.sendable(3), 3);
        assert_eq!(flights.send(3, 10, 100, |frame| frame, |_| true), Sent { held: 0, late: 0, worst: 10 });
        assert_eq!(flights.sendable(9), 1);
        flights.send(1, 20, 100, |frame| frame, |_| true);
        assert_eq!(flights.sendable(9), 0);
        let mut starts = Vec::new();
        assert!(flights.ack(2, |start| starts.push(start)));
        assert_eq!(starts, [0, 1]);
        assert_eq!(flights.sendable(9), 2);
        // Frames 4 to 8 were due while the window was full: late because of the node.
        assert_eq!(flights.send(2, 5_000, 100, |frame| frame, |_| true), Sent { held: 2, late: 0, worst: 0 });
        assert!(!flights.ack(1, |_| {}) && !flights.ack(7, |_| {}));
        assert!(flights.ack(6, |_| {}) && flights.is_idle());
        // Frame 9 was not due then: late because of the load generator.
        assert_eq!(flights.sendable(10), 4);
        assert_eq!(flights.send(4, 5_000, 100, |frame| frame, |_| true), Sent { held: 3, late: 1, worst: 4_991 });
    }

    /// A node that answers each frame half a millisecond after it was sent, and nothing between two times.
    fn stalled(from_intended: bool) -> f64 {
        let schedule = Schedule::new(1, 1, 1_000).expect("no zero");
        let (recorder, mut flights) = (Recorder::new(1).expect("bounds"), Flights::new(4));
        recorder.open(0);
        let mut unanswered: VecDeque<(u64, u64)> = VecDeque::new();
        let end = 3_000 * MILLI;
        let mut now = 0;
        while now < end {
            let due = schedule.slots_before(now + 1);
            let count = flights.sendable(due);
            let first = flights.sent();
            flights.send(count, now, MILLI, |frame| if from_intended { schedule.intended_nanos(0, frame) } else { now }, |_| true);
            unanswered.extend((first..first + count).map(|frame| (frame + 1, now)));
            let stalls = (1_000 * MILLI..1_500 * MILLI).contains(&now);
            while let Some((frames, sent)) = unanswered.front().copied().filter(|(_, sent)| !stalls && now >= sent + MILLI / 2) {
                assert!(flights.ack(frames, |start| recorder.record(0, start, now.max(sent))));
                unanswered.pop_front();
            }
            now += MILLI / 4;
        }
        recorder.latency().expect("bounds").p99_ms
    }

    #[test]
    fn a_stall_of_the_node_shows_although_little_could_be_sent_during_it() {
        // Half a second of three: a sixth of all intended frames waited, some of them all of it.
        let counted = stalled(true);
        assert!((400.0..=520.0).contains(&counted), "{counted}");
        // Counted from the real sending, the stall would hide behind the four frames that were under way.
        let hidden = stalled(false);
        assert!(hidden < 5.0, "{hidden}");
    }
}
