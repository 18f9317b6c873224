//! The name of this machine, as far as it decides what a training step costs.

use std::fs;

/// Processor, cores, memory and program: equal names measure alike. Memory is told in whole
/// gibibytes, for kernels keep a little of it to themselves.
pub fn name() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!(
        "{}, {cores} cores, {} GiB, lvmed {} {build}",
        processor(&processors),
        gibibytes(&memory),
        env!("CARGO_PKG_VERSION")
    )
}

/// The processor as `/proc/cpuinfo` names it; on ARM by numbers.
fn processor(text: &str) -> String {
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    value("model name")
        .or_else(|| Some(format!("{} {}", value("CPU implementer")?, value("CPU part")?)))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// `MemTotal` of `/proc/meminfo`, rounded up.
fn gibibytes(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::{gibibytes, name, processor};

    #[test]
    fn a_machine_is_named_by_what_decides_its_speed() {
        let intel = "processor\t: 0\nmodel name\t: A Processor @ 2 GHz\nflags\t: avx2\n";
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";

        assert_eq!(processor(intel), "A Processor @ 2 GHz");
        assert_eq!(processor(arm), "0x41 0xd0c");
        assert!(!processor("").is_empty());
        assert_eq!(gibibytes("MemTotal:       16315684 kB\n"), 16);
        assert_eq!(name(), name());
    }
}
