//! Memory that a process may still take: of its control group, or of the machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Share of the free memory that training may plan for.
const SHARE: f64 = 0.9;

/// Bytes that training may use: `setting` where it is not 0, else most of what is free now.
pub fn budget(setting: u64) -> u64 {
    if setting > 0 { setting } else { (least(Kind::Free) as f64 * SHARE) as u64 }
}

/// Bytes that training could use if nothing else were at work: `setting` where it is not 0, else most
/// of what there is. What needs more will never fit.
pub fn capacity(setting: u64) -> u64 {
    if setting > 0 { setting } else { (least(Kind::All) as f64 * SHARE) as u64 }
}

/// The kind of memory that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The memory that is free now.
    Free,
    /// The memory that there is.
    All,
}

/// Memory of the machine, or of the control group where that is less.
fn least(kind: Kind) -> u64 {
    let machine = of_machine(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), kind);
    let group = of_group(Path::new("/sys/fs/cgroup"), kind);
    machine.into_iter().chain(group).min().unwrap_or(u64::MAX)
}

/// `MemAvailable` or `MemTotal` of `/proc/meminfo`, in bytes.
fn of_machine(text: &str, kind: Kind) -> Option<u64> {
    let name = match kind {
        Kind::Free => "MemAvailable:",
        Kind::All => "MemTotal:",
    };
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The limit of the process's control group, version 2 or 1, or what it leaves.
fn of_group(root: &Path, kind: Kind) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let second = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mut places: Vec<(PathBuf, &str, &str)> = Path::new(second.trim_start_matches('/'))
        .ancestors()
        .map(|path| (root.join(path), "memory.max", "memory.current"))
        .collect();
    places.push((root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"));
    places.iter().filter_map(|(folder, limit, used)| left(folder, limit, used, kind)).min()
}

fn left(folder: &Path, limit: &str, used: &str, kind: Kind) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let limit = number(limit)?;
    if kind == Kind::All {
        return Some(limit);
    }
    let files = reclaimable(&fs::read_to_string(folder.join("memory.stat")).unwrap_or_default());
    Some(limit.saturating_sub(number(used)?.saturating_sub(files)))
}

/// Cached files count as used and are given back when memory is wanted.
fn reclaimable(stat: &str) -> u64 {
    let lines = stat.lines();
    let line =
        lines.filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == "inactive_file");
    line.and_then(|(_, bytes)| bytes.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Kind, budget, capacity, left, of_machine, reclaimable};

    #[test]
    fn the_setting_wins_and_without_it_there_is_some_memory() {
        assert_eq!((budget(1234), capacity(1234)), (1234, 1234));
        assert!(budget(0) > 1 << 20 && budget(0) <= capacity(0));
    }

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        let machine = "MemTotal: 9216 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(of_machine(machine, Kind::Free), Some(2 << 20));
        assert_eq!(of_machine(machine, Kind::All), Some(9 << 20));
        assert_eq!(reclaimable("anon 5\ninactive_file 300\n"), 300);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("memory.max", "max\n");
        write("memory.current", "600\n");
        assert_eq!(left(folder.path(), "memory.max", "memory.current", Kind::Free), None);
        write("memory.max", "1000\n");
        write("memory.stat", "inactive_file 100\n");
        let left = |kind| left(folder.path(), "memory.max", "memory.current", kind);
        assert_eq!((left(Kind::Free), left(Kind::All)), (Some(500), Some(1000)));
    }
}
