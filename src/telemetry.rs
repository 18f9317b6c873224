//! Logs as JSON or text, never with patient data.
