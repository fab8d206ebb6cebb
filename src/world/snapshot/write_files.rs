//! Names and files as a restore may write them.
//!
//! Owns: the check of path components and the writing of files below one directory. Must not know: where contents come from. Invariant:
//! nothing is written outside the directory, through a link, or under any name that is `.git` to some file system.

use gix::bstr::BStr;
use gix::validate::path::component;

/// Refuses what no tree may hold: empty and relative names, and all forms of `.git`.
pub(super) fn check_name(name: &BStr) -> Result<(), component::Error> {
    let options = component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    gix::validate::path::component(name, None, options).map(|_| ())
}
