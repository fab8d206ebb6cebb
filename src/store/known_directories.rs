//! Directories of refs whose own names are on disk.
//!
//! Owns: `<common>/tether/directories`, which spares each swap to sync what was synced before. Must not know: refs.
//! Invariants: a directory is listed only once the directory around it was synced; another one that takes its name is not it. The list may
//! be lost or torn at any time, which costs a sync.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::sharing::Sharing;

/// A list above this holds mostly directories that are gone, and is begun anew.
const LONGEST: u64 = 16 << 10;

/// The list.
#[derive(Debug, Clone)]
pub(super) struct KnownDirectories {
    file: PathBuf,
    sharing: Sharing,
}

/// Which directory stands at a path: the number of its file and when it was made, as both together are not given twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Standing(String);

impl Standing {
    /// The directory that stands there now; `None` where the file system does not say when it was made.
    pub(super) fn at(directory: &Path) -> Option<Self> {
        let found = fs::metadata(directory).ok()?;
        let made = found.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self(format!("{} {} {} {}", found.dev(), found.ino(), made.as_nanos(), directory.to_str()?)))
            .filter(|line| !line.0.contains('\n'))
    }
}

impl KnownDirectories {
    pub(super) fn below(common: &Path, sharing: Sharing) -> Self {
        Self { file: common.join("tether").join("directories"), sharing }
    }

    /// Those whose names are on disk.
    pub(super) fn read(&self) -> HashSet<Standing> {
        if !self.is_list() {
            return HashSet::new();
        }
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        whole.map(|line| Standing(line.to_owned())).collect()
    }

    /// Whether a list stands there: not a pipe that nobody writes to, nor a file without an end.
    fn is_list(&self) -> bool {
        fs::metadata(&self.file).is_ok_and(|found| found.is_file() && found.len() <= LONGEST)
    }

    /// Lists what was synced; where that cannot be noted it is synced again the next time.
    pub(super) fn add(&self, synced: &[Standing]) {
        if synced.is_empty() {
            return;
        }
        if !self.is_list() {
            let _ = fs::remove_file(&self.file);
        }
        let lines: String = synced.iter().flat_map(|standing| [standing.0.as_str(), "\n"]).collect();
        // In one write: two processes never mix their lines.
        let file = OpenOptions::new().append(true).create(true).open(&self.file);
        let _ =
            file.and_then(|mut file| self.sharing.adjust_file(&file).and_then(|()| file.write_all(lines.as_bytes())));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where it fails")]
mod tests {
    use super::*;

    #[test]
    fn another_directory_of_the_same_name_is_not_known() {
        let common = tempfile::tempdir().unwrap();
        let known = KnownDirectories::below(common.path(), Sharing::Umask);
        let directory = common.path().join("refs");
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir(common.path().join("tether")).unwrap();
        let Some(first) = Standing::at(&directory) else { return };
        known.add(std::slice::from_ref(&first));
        assert!(known.read().contains(&Standing::at(&directory).unwrap()));
        fs::rename(&directory, common.path().join("elsewhere")).unwrap();
        fs::create_dir(&directory).unwrap();
        assert!(!known.read().contains(&Standing::at(&directory).unwrap()));
    }

    #[test]
    fn a_torn_or_long_list_is_no_list() {
        let common = tempfile::tempdir().unwrap();
        fs::create_dir(common.path().join("tether")).unwrap();
        let known = KnownDirectories::below(common.path(), Sharing::Umask);
        let standing = Standing("1 2 3 /somewhere".to_owned());
        fs::write(&known.file, &standing.0).unwrap();
        assert!(known.read().is_empty(), "a line without its end");
        fs::write(&known.file, "x\n".repeat(10_000)).unwrap();
        known.add(std::slice::from_ref(&standing));
        assert_eq!(known.read(), HashSet::from([standing.clone()]));
        for endless in ["/dev/zero", "nowhere/at/all"] {
            fs::remove_file(&known.file).unwrap();
            std::os::unix::fs::symlink(endless, &known.file).unwrap();
            assert!(known.read().is_empty());
            known.add(std::slice::from_ref(&standing));
            assert_eq!(known.read(), HashSet::from([standing.clone()]), "{endless}");
        }
    }
}
