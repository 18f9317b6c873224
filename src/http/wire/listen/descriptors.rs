//! File descriptors: the system's limit for the process is raised to what the connections need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Connections;

/// Descriptors for everything but connections and the files that are sent or received on them.
const OTHERS: u64 = 256;

/// Raises the limit of descriptors as far as needed and allowed. Where that is not far enough, fewer
/// connections are taken: one that cannot be accepted would keep even probes out.
pub fn make_room(bounds: &mut Connections) {
    let limit = getrlimit(Resource::Nofile);
    let (wanted, hard) = (needed(bounds), limit.maximum.unwrap_or(u64::MAX));
    if limit.current.is_some_and(|soft| soft < wanted.min(hard)) {
        let raised = Rlimit { current: Some(wanted.min(hard)), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    let found = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let all = fitting(bounds, found);
    if all < bounds.all {
        let asked = bounds.all;
        tracing::warn!(
            "the system allows {found} open files, which is enough for {all} connections, not for \
             {asked} (LVMED_LIMIT_CONNECTIONS); raise its hard limit (`ulimit -Hn`)"
        );
        bounds.all = all;
    }
}

/// A connection may send or receive a file.
fn needed(bounds: &Connections) -> u64 {
    2 * u64::from(bounds.all) + u64::from(bounds.reserved) + OTHERS
}

/// As many connections as `found` descriptors are enough for, and at least a few.
fn fitting(bounds: &Connections, found: u64) -> u32 {
    let left = found.saturating_sub(u64::from(bounds.reserved) + OTHERS);
    u32::try_from(left / 2).unwrap_or(u32::MAX).clamp(16.min(bounds.all), bounds.all)
}

#[cfg(test)]
mod tests {
    use super::{fitting, needed};
    use crate::config::Limits;

    #[test]
    fn no_more_connections_are_taken_than_there_are_descriptors_for() {
        let bounds = Limits::default().connections;

        assert_eq!(fitting(&bounds, needed(&bounds)), bounds.all);
        assert_eq!(fitting(&bounds, 1 << 20), bounds.all);
        assert_eq!(fitting(&bounds, 1024), (1024 - 256 - bounds.reserved) / 2);
        assert_eq!(fitting(&bounds, 64), 16);
    }
}
