//! One file of an export: written under a temporary name, renamed when it is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::Identity;
use super::args::ExportFormat;
#[cfg(feature = "parquet")]
use super::parquet::ParquetWriter;
use super::rows::{self, Rows};
use crate::client::Symbols;
use crate::limits::EXPORT_PARTS_MAX;
use crate::render::ColumnValue;
use crate::wire::Frame;

/// A file that is being written. Dropped before it is finished, it leaves nothing.
pub(super) struct Part {
    temporary: PathBuf,
    target: PathBuf,
    writer: Option<Writer>,
    rows: Rows,
}

enum Writer {
    Csv(csv::Writer<BufWriter<File>>),
    #[cfg(feature = "parquet")]
    Parquet(ParquetWriter),
}

impl Part {
    /// Begins the next part in this folder, which is made when it is missing: of an instrument whose quantities have units
    /// of so many decimals.
    pub(super) fn create(
        folder: &Path,
        format: ExportFormat,
        rows: Rows,
        identity: &Identity,
        quantity_decimals: u8,
    ) -> io::Result<Part> {
        std::fs::create_dir_all(folder)?;
        let extension = extension(format);
        for number in 0..EXPORT_PARTS_MAX {
            let name = format!("part-{number:05}.{extension}");
            let target = folder.join(&name);
            if target.symlink_metadata().is_ok() {
                continue;
            }
            let temporary = folder.join(format!(".{name}.tmp"));
            let file = match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                // Another part of this folder is being written.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            let mut part = Part { temporary, target, writer: None, rows };
            part.writer = Some(Writer::new(file, format, rows, identity, quantity_decimals)?);
            return Ok(part);
        }
        Err(io::Error::other(format!("there are {EXPORT_PARTS_MAX} parts already")))
    }

    /// Writes these frames, all of them of the part's kind.
    pub(super) fn write(&mut self, frames: &[Frame], symbols: &Symbols) -> io::Result<()> {
        match &mut self.writer {
            Some(Writer::Csv(writer)) => write_csv(writer, frames, symbols),
            #[cfg(feature = "parquet")]
            Some(Writer::Parquet(writer)) => writer.write(frames),
            None => Ok(()),
        }
    }

    /// Ends the file and gives it its name.
    pub(super) fn finish(mut self) -> io::Result<()> {
        match self.writer.take() {
            Some(Writer::Csv(mut writer)) => writer.flush()?,
            #[cfg(feature = "parquet")]
            Some(Writer::Parquet(writer)) => writer.finish()?,
            None => {}
        }
        std::fs::rename(&self.temporary, &self.target)
    }

    /// Its kind.
    pub(super) fn rows(&self) -> Rows {
        self.rows
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.writer = None;
        // Renamed or not: under the temporary name nothing stays.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Writer {
    #[cfg_attr(
        not(feature = "parquet"),
        allow(unused_variables, reason = "CSV has no place for it")
    )]
    fn new(
        file: File,
        format: ExportFormat,
        rows: Rows,
        identity: &Identity,
        quantity_decimals: u8,
    ) -> io::Result<Writer> {
        match format {
            ExportFormat::Csv => {
                let mut writer = csv::Writer::from_writer(BufWriter::new(file));
                writer.write_record(rows.columns().map(|column| column.name))?;
                Ok(Writer::Csv(writer))
            }
            #[cfg(feature = "parquet")]
            ExportFormat::Parquet => {
                let writer = ParquetWriter::new(file, rows, identity, quantity_decimals)?;
                Ok(Writer::Parquet(writer))
            }
            #[cfg(not(feature = "parquet"))]
            ExportFormat::Parquet => Err(io::Error::other(WITHOUT_PARQUET)),
        }
    }
}

/// What is said where parquet is not built in.
#[cfg(not(feature = "parquet"))]
pub(super) const WITHOUT_PARQUET: &str = "this program was built without parquet; build it with \
     `cargo build --release --features parquet`, or export --format csv";

/// The end of a part's name.
pub(super) fn extension(format: ExportFormat) -> &'static str {
    match format {
        ExportFormat::Csv => "csv",
        ExportFormat::Parquet => "parquet",
    }
}

fn write_csv(
    writer: &mut csv::Writer<BufWriter<File>>,
    frames: &[Frame],
    symbols: &Symbols,
) -> io::Result<()> {
    let mut row: Vec<ColumnValue> = Vec::new();
    for frame in frames {
        rows::values(frame, &mut row);
        let decimals = symbols.decimals(frame.instrument());
        let fields = row.drain(..).map(|value| value.text(decimals).unwrap_or_default());
        writer.write_record(fields)?;
    }
    Ok(())
}
