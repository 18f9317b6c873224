//! Child processes that are ended in an orderly way, and that do not outlive whoever started them.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, kill_process, kill_process_group, set_parent_process_death_signal,
};

/// The time between two looks at a process that is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// The longest that a process may take to end before it is made to.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Ends a process by the first of the signals, or by the second when the first is not obeyed in time.
/// Blocks until it has ended.
pub(super) fn end(child: &mut Child, signals: [Signal; 2]) {
    let Some(process) = id(child) else { return };
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    for signal in signals {
        // That it ended in between is no error.
        let _ = kill_process(process, signal);
        let asked = Instant::now();
        while asked.elapsed() < STOP_TIMEOUT {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Ends a process that leads a group of its own, with the whole group.
pub(super) fn end_group(child: &mut Child) {
    if let Some(group) = id(child) {
        // That it ended in between is no error.
        let _ = kill_process_group(group, Signal::TERM);
    }
    end(child, [Signal::TERM, Signal::KILL]);
}

fn id(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Has the kernel send the command's process a signal when the thread that starts it ends.
#[expect(unsafe_code, reason = "pre_exec is the only hook between fork and exec")]
pub(super) fn end_with_parent(command: &mut Command, signal: Signal) {
    // SAFETY: the closure makes one system call and allocates nothing. It runs after the change of
    // user, which would clear the setting.
    unsafe {
        command.pre_exec(move || Ok(set_parent_process_death_signal(Some(signal))?));
    }
}
