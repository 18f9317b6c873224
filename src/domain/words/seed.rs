//! Seeds of random choices.

/// The largest seed: every JSON reader keeps integers up to it exact (RFC 8259, section 6).
pub const MAX_SEED: u64 = (1 << 53) - 1;
