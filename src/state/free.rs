//! How much room is left on the disk of a folder.

use std::io;
use std::path::Path;

/// Bytes that this user may still write where the folder lies, or would lie where it is not there yet.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let there = folder.ancestors().find(|ancestor| ancestor.is_dir());
    // A relative path whose first part is missing begins in the current folder.
    fs4::available_space(there.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_room_of_where_it_will_be() {
        let folder = tempfile::tempdir().unwrap();
        let there = free_bytes(folder.path()).unwrap();
        assert!(there > 0);
        assert!(free_bytes(&folder.path().join("not/yet")).unwrap() > 0);
        assert!(free_bytes(Path::new("not-yet/there")).is_ok());
    }
}
