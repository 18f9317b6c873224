//! The confinement of a child, which gives up what it does not need: memory, descriptors, files,
//! network, processes.
//!
//! The limits of the system always hold. Landlock and seccomp hold where the kernel has them; the
//! server says at its start when one is absent.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use serde::{Deserialize, Serialize};

/// Descriptors of a child: its three standard ones, its socket, and the file that it reads.
const DESCRIPTORS: u64 = 16;
/// The newest Landlock whose restrictions are asked for.
const LANDLOCK: ABI = ABI::V6;

/// The confinement that holds beside the limits of memory and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    /// No file can be opened, and no connection made (Landlock).
    pub landlock: bool,
    /// No socket, no process, no tracing (seccomp).
    pub seccomp: bool,
}

/// Confines the calling thread and all that it starts, for good. Only `readable` can still be
/// opened, for reading.
pub(super) fn confine(memory_bytes: u64, readable: Option<&Path>) -> io::Result<Confined> {
    let limit = |resource, value| {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    limit(Resource::As, own_bytes()? + memory_bytes)?;
    limit(Resource::Nofile, DESCRIPTORS)?;
    // What is in memory are pictures of patients.
    limit(Resource::Core, 0)?;
    let landlock = restrict_files(readable).unwrap_or(false);
    let seccomp = restrict_calls().unwrap_or(false);
    Ok(Confined { landlock, seccomp })
}

/// Address space that the program takes before it has read anything.
fn own_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Takes all access to files and to the network away; whether the kernel can.
fn restrict_files(readable: Option<&Path>) -> Result<bool, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    if let Some(file) = readable.and_then(|path| PathFd::new(path).ok()) {
        ruleset = ruleset.add_rule(PathBeneath::new(file, AccessFs::ReadFile))?;
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Takes the calls away that reading files never needs; whether the kernel can.
fn restrict_calls() -> Result<bool, seccompiler::Error> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(false) };
    let refuse = |calls: BTreeMap<i64, Vec<SeccompRule>>, error: i32| {
        let refused = SeccompAction::Errno(error.unsigned_abs());
        let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, arch)?;
        BpfProgram::try_from(filter)
    };
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    refused.extend([libc::SYS_fork, libc::SYS_vfork].map(|call| (call, Vec::new())));
    // A thread is made by the call that makes processes, with a flag that says so.
    let threads = libc::CLONE_THREAD as u64;
    let no_thread =
        SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(threads), 0)?;
    refused.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_thread])?]);
    // Its newer form hides the flags from a filter; without it, the older one is used.
    let newer = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply_filter(&refuse(newer, libc::ENOSYS)?)?;
    apply_filter(&refuse(refused, libc::EPERM)?)?;
    Ok(true)
}

/// Calls that make sockets, processes or mounts, reach into other processes, or lift limits.
const REFUSED: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_memfd_create,
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_setuid,
    libc::SYS_setgid,
];
