//! What the operating system says about this machine and process; nothing where it does not.

use std::thread::available_parallelism;

/// Name of the processor.
pub fn processor() -> Option<String> {
    field("/proc/cpuinfo", "model name")
}

/// Threads that can run at once.
pub fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Memory of the machine, in bytes.
pub fn total_memory() -> Option<u64> {
    bytes("/proc/meminfo", "MemTotal")
}

/// Of it, what programs may still take.
pub fn free_memory() -> Option<u64> {
    bytes("/proc/meminfo", "MemAvailable")
}

/// The most memory that this process has had at once, in bytes.
pub fn peak_resident_bytes() -> Option<u64> {
    bytes("/proc/self/status", "VmHWM")
}

fn bytes(path: &str, name: &str) -> Option<u64> {
    field(path, name)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The value of the first line `name : value` of a file of Linux's /proc.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_string())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_memory_in_bytes() {
        let [total, free, peak] = [total_memory(), free_memory(), peak_resident_bytes()].map(Option::unwrap);
        assert!(free <= total && peak <= total && peak > 1 << 20, "{total} {free} {peak}");
    }
}
