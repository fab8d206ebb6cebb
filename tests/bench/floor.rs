//! The least that anything takes that looks at a whole worktree: read the index, lstat every entry, list every directory; on two threads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The argument that makes this program the floor; its index and its worktree follow.
pub(crate) const FLOOR: &str = "--look-at-worktree";

/// Looks at everything once; answers how much there was.
pub(crate) fn look(index: &Path, worktree: &Path) -> Result<usize, String> {
    let options = gix::index::decode::Options::default();
    let index = gix::index::File::at(index, gix::hash::Kind::Sha1, true, options).map_err(|error| error.to_string())?;
    let paths: Vec<PathBuf> =
        index.entries().iter().map(|entry| worktree.join(entry.path(&index).to_string())).collect();
    let directories: BTreeSet<&Path> = paths.iter().filter_map(|path| path.parent()).chain([worktree]).collect();
    let directories: Vec<&Path> = directories.into_iter().collect();
    let half = |number: usize| {
        let of = |length: usize| (length * number / 2)..(length * (number + 1) / 2);
        let found = paths[of(paths.len())].iter().filter(|path| std::fs::symlink_metadata(path).is_ok()).count();
        let listed = directories[of(directories.len())].iter().filter_map(|path| std::fs::read_dir(path).ok());
        found + listed.map(Iterator::count).sum::<usize>()
    };
    Ok(std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        half(0) + other.join().unwrap_or_default()
    }))
}
