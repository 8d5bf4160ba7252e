//! What the file system says of a file: whether it may be written, and how much room there is.

use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat, statvfs};

/// Whether this user may write a file or make files in a folder: its mode, the mount and its flags all count.
pub fn may_write(path: &Path) -> io::Result<()> {
    Ok(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}

/// How many bytes are free for this user.
pub fn free(path: &Path) -> io::Result<u64> {
    let found = statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The folder that a file is in or is to be in.
pub fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
