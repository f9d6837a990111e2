//! Frames of one kind and one instrument as the rows of a Parquet file.

use std::fs::File;
use std::io::{self, BufWriter};

use super::Identity;
use super::rows::{self, Rows};
use crate::render::ColumnValue;
use crate::render::parquet::{Cell, Field, ParquetFile};
use crate::wire::Frame;

/// One Parquet file of an export.
pub(super) struct ParquetWriter(ParquetFile<BufWriter<File>>);

impl ParquetWriter {
    /// Begins a file for rows of this kind, of an instrument whose quantities have units of so many decimals.
    pub(super) fn new(
        file: File,
        rows: Rows,
        identity: &Identity,
        quantity_decimals: u8,
    ) -> io::Result<ParquetWriter> {
        let columns = rows.columns();
        let fields: Vec<Field> =
            columns.map(|it| Field::of_kind(it.name, it.holds, quantity_decimals)).collect();
        let said = identity.0.iter().cloned();
        ParquetFile::new(BufWriter::new(file), rows.name(), &fields, said).map(ParquetWriter)
    }

    /// Writes these frames as one row group.
    pub(super) fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        let mut row: Vec<ColumnValue> = Vec::new();
        for frame in frames {
            rows::values(frame, &mut row);
            self.0.push(row.drain(..).map(Cell::from));
        }
        self.0.end_group()
    }

    /// Ends the file.
    pub(super) fn finish(self) -> io::Result<()> {
        self.0.finish().map(drop)
    }
}
