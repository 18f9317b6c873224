//! Reading what strangers send in processes of its own, which the system bounds and which may die.
//!
//! Pictures, archives and checkpoints are parsed in children of this program (`lvmed decode`), never
//! in the process that serves. A child has a bounded address space and processor time, no
//! descriptors but its socket and the file that it is given, and, where the kernel can, no network
//! and no file system. One that breaches its bounds costs the file that made it, and is replaced.

mod breach;
pub mod child;
mod confine;
mod message;
mod pool;
mod process;
mod wire;

pub use breach::{Breach, DecodeError};
pub use message::{Frame, Stored, UploadAsk};
pub use pool::{Budget, Listener, Pool};
