//! The reasons why a child gives no answer: the file is refused in words, or it broke the child's
//! bounds.

use std::process::ExitStatus;

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::domain::size::Size;

/// Counter of breaches, by kind.
const BREACHES: &str = "lvmed_decode_breaches_total";
/// The text that the standard library writes before it ends a process that gets no memory.
const NO_MEMORY: &str = "memory allocation of";

/// The way in which a file broke the bounds of the process that read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// It needs more memory than a child may have.
    #[error("needs more than {} of memory to decode ({setting})", Size(*bytes))]
    Memory {
        /// The bound.
        bytes: u64,
        /// The setting that raises it.
        setting: &'static str,
    },
    /// It takes longer than a child may work.
    #[error("takes longer than {seconds} s to decode (LVMED_LIMIT_DECODE_SECONDS)")]
    Time {
        /// The bound.
        seconds: u64,
    },
    /// The child crashed, or answered what it cannot have found.
    #[error("broke the decoder; it is damaged, or was made to do harm")]
    Crash,
}

impl Breach {
    /// The breach that the end of a child tells of: by the system's hand for want of memory or of
    /// time, or by a crash. `said` is what it wrote to its standard error.
    pub(super) fn of(status: Option<ExitStatus>, said: &str, bounds: &Bounds) -> Self {
        let signal = status.and_then(|status| status.signal());
        if said.contains(NO_MEMORY) {
            Self::Memory { bytes: bounds.memory_bytes, setting: bounds.memory_setting }
        } else if signal == Some(Signal::XCPU.as_raw()) {
            Self::Time { seconds: bounds.seconds }
        } else {
            Self::Crash
        }
    }

    /// Counts it in the metrics and writes it to the log; neither tells of the file.
    pub(super) fn count(self) {
        let kind = match self {
            Self::Memory { .. } => "memory",
            Self::Time { .. } => "time",
            Self::Crash => "crash",
        };
        metrics::counter!(BREACHES, "kind" => kind).increment(1);
        tracing::warn!(kind, "a file broke the bounds of the process that read it");
    }
}

/// The bounds of what a child may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Address space beyond what the program itself takes.
    pub(super) memory_bytes: u64,
    /// The setting of that.
    pub(super) memory_setting: &'static str,
    /// Seconds for one file.
    pub(super) seconds: u64,
}

/// The reason why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file cannot be used, in words for whoever sent it; they go on after its name.
    #[error("{0}")]
    Refused(String),
    /// The file broke the bounds.
    #[error(transparent)]
    Breach(#[from] Breach),
    /// Whoever asked did not want to hear the rest.
    #[error("the reading was stopped")]
    Stopped,
    /// No child could be started or asked.
    #[error("a process that reads files cannot be used: {0}")]
    Io(#[from] std::io::Error),
}
