//! The unprivileged user that root runs Postgres as.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Users that may be taken, the best first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// A user of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Whom to become when this process is root; `None` when it is not.
pub(super) fn user_to_become() -> Option<User> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = CANDIDATES.iter().find_map(|name| find(&users, name));
    // The traditional number of `nobody`, for images without a list of users.
    Some(known.unwrap_or_else(|| User { name: "nobody".to_owned(), uid: 65534, gid: 65534 }))
}

fn find(users: &str, name: &str) -> Option<User> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { name: name.to_owned(), uid, gid })
    })
}

impl User {
    /// The first folder on the way down to `folder` that this user may not enter.
    pub(super) fn barred_from(&self, folder: &Path) -> Option<PathBuf> {
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        let barred = way.into_iter().find(|folder| !self.may_enter(folder));
        barred.map(Path::to_owned)
    }

    fn may_enter(&self, folder: &Path) -> bool {
        let Ok(found) = std::fs::metadata(folder) else { return false };
        let bit = if found.uid() == self.uid {
            0o100
        } else if found.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        found.mode() & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{User, find};

    #[test]
    fn a_user_is_read_from_its_line() {
        let users = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:,,,:/var/lib:/bin/sh\n";

        let found = find(users, "postgres");

        assert_eq!(found, Some(User { name: "postgres".to_owned(), uid: 101, gid: 104 }));
        assert_eq!(find(users, "nobody"), None);
    }

    #[test]
    fn the_closed_folder_on_the_way_is_named() {
        let stranger = User { name: "stranger".to_owned(), uid: 4_000_000, gid: 4_000_000 };
        let closed = tempfile::tempdir().expect("a temporary folder");
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(closed.path(), private).expect("closed");
        let inner = closed.path().join("inner");
        std::fs::create_dir(&inner).expect("made");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&inner, open.clone()).expect("opened");

        assert_eq!(stranger.barred_from(&inner), Some(closed.path().to_owned()));
        std::fs::set_permissions(closed.path(), open).expect("opened");
        assert_eq!(stranger.barred_from(&inner), None);
    }
}
