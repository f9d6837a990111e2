//! The file `PARTITION` in a shard's directory: one line that says which part of the symbols the shard keeps.
//! It is replaced as a whole: written under another name, synced, renamed.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use super::worker::{failure, sync_directory};
use crate::limits::PARTITION_TEXT_BYTES_MAX;
use crate::log::StorageError;

const NAME: &str = "PARTITION";

/// What stands there; `None` when there is no such file.
pub(super) fn read(directory: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    let path = directory.join(NAME);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| failure("open", &path, error))?,
    };
    let mut text = Vec::new();
    let read = file.take(PARTITION_TEXT_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| failure("read", &path, error))?;
    Ok(Some(text))
}

pub(super) fn write(directory: &Path, text: &[u8]) -> Result<(), StorageError> {
    let (path, temporary) = (directory.join(NAME), directory.join("PARTITION.new"));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    });
    written.map_err(|error| failure("write", &temporary, error))?;
    std::fs::rename(&temporary, &path).map_err(|error| failure("rename", &temporary, error))?;
    sync_directory(directory)
}
