//! The node's own counters, from its metrics.

use millstream_load::report::CommitReport;

/// The counters that a bench looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct NodeCounters {
    frames: f64,
    commits: f64,
    commit_bytes: f64,
    commit_seconds: f64,
}

impl NodeCounters {
    /// Reads the text; a counter that is not there is zero.
    pub(super) fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("millstream_")?.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        Self {
            frames: value("frames_total"),
            commits: value("commits_total"),
            commit_bytes: value("commit_bytes_total"),
            commit_seconds: value("commit_seconds_sum"),
        }
    }

    /// What was committed since an earlier look.
    pub(super) fn since(&self, before: &Self) -> CommitReport {
        let commits = self.commits - before.commits;
        let of_each = |sum: f64| if commits > 0.0 { sum / commits } else { 0.0 };
        CommitReport {
            // Counters are whole numbers.
            commits: commits as u64,
            frames_per_commit: of_each(self.frames - before.frames),
            mean_commit_ms: of_each(self.commit_seconds - before.commit_seconds) * 1e3,
            bytes: (self.commit_bytes - before.commit_bytes) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_subtracted() {
        let text = "# TYPE millstream_frames counter\nmillstream_frames_total 10\nmillstream_commits_total 4\n\
                    millstream_commit_bytes_total 800\nmillstream_commit_seconds_sum 0.5\nmillstream_commit_seconds_count 4\n";
        let (before, after) = (
            NodeCounters::parse(text),
            NodeCounters::parse(&text.replace("total 10", "total 40").replace("total 4\n", "total 14\n").replace("sum 0.5", "sum 0.6")),
        );
        let since = after.since(&before);
        assert_eq!((since.commits, since.frames_per_commit, since.bytes), (10, 3.0, 0));
        assert!((since.mean_commit_ms - 10.0).abs() < 1e-9);
        assert_eq!(NodeCounters::parse("").since(&NodeCounters::default()).mean_commit_ms, 0.0);
    }
}
