//! Memory that a process may still take: of its control group, or of the machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Share of the free memory that training may plan for.
const SHARE: f64 = 0.9;

/// Bytes that training may use: `setting` where it is not 0, else most of what is free now.
pub fn budget(setting: u64) -> u64 {
    if setting > 0 { setting } else { (available() as f64 * SHARE) as u64 }
}

/// Free memory of the machine, or of the control group where that is less.
fn available() -> u64 {
    let machine = of_machine(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let group = of_group(Path::new("/sys/fs/cgroup"));
    machine.into_iter().chain(group).min().unwrap_or(u64::MAX)
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn of_machine(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What the limit of the process's control group leaves, version 2 or 1.
fn of_group(root: &Path) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let second = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mut places: Vec<(PathBuf, &str, &str)> = Path::new(second.trim_start_matches('/'))
        .ancestors()
        .map(|path| (root.join(path), "memory.max", "memory.current"))
        .collect();
    places.push((root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"));
    places.iter().filter_map(|(folder, limit, used)| left(folder, limit, used)).min()
}

fn left(folder: &Path, limit: &str, used: &str) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let limit = number(limit)?;
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
    use super::{budget, left, of_machine, reclaimable};

    #[test]
    fn the_setting_wins_and_without_it_there_is_some_memory() {
        assert_eq!(budget(1234), 1234);
        assert!(budget(0) > 1 << 20);
    }

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        assert_eq!(of_machine("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(reclaimable("anon 5\ninactive_file 300\n"), 300);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("memory.max", "max\n");
        write("memory.current", "600\n");
        assert_eq!(left(folder.path(), "memory.max", "memory.current"), None);
        write("memory.max", "1000\n");
        write("memory.stat", "inactive_file 100\n");
        assert_eq!(left(folder.path(), "memory.max", "memory.current"), Some(500));
    }
}
