//! Rows as a Parquet file, column by column: for `pregao export`, and for answers of the gateway.
//!
//! Without the `arrow` crates: a batch of rows is one row group, and its columns are plain vectors.
//! Prices are DECIMAL(19, 9), the least that holds every 64-bit price, so that a product with a
//! whole quantity still fits the 38 digits that readers have. Quantities are whole numbers where the instrument's are, and
//! else decimals of its scale. A file has one scale for all of its rows.
//!
//! # Decisions
//!
//! * Arrow would be most of the build, and nothing here needs it: the column writers of `parquet`
//!   suffice for plain columns.
//! * The same rows are the same bytes: nothing in a file is the time at which it was made. Readers ask for a file in
//!   several parts, and each part has to fit the others.

mod answers;

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type,
    Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

use super::ColumnValue;
use crate::wire::{Holds, PRICE_UNDEFINED};

pub(crate) use answers::{
    bar_cells, bar_fields, instrument_cells, instrument_fields, quote_cells, quote_fields,
    trade_cells, trade_fields,
};

/// Bytes of a DECIMAL(19, 9): 2^71 is more than 10^19.
const PRICE_BYTES: usize = 9;
/// Bytes of a decimal of up to 38 digits.
const DECIMAL_BYTES: usize = 16;
/// Digits of the most units that a trade, and that one side of a quote can have.
const QUANTITY_DIGITS: u8 = 20;
const SIZE_DIGITS: u8 = 24;
/// Digits of the longest decimal that there is.
const DIGITS_MAX: u8 = 38;

/// How the quantities of a file are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// As unsigned numbers of 64 bits.
    Whole,
    /// As decimals with so many places.
    Decimals { digits: u8, decimals: u8 },
}

impl Scale {
    /// Quantities of a frame's column, of one instrument whose units have so many decimals.
    fn of(holds: Holds, decimals: u8) -> Scale {
        let digits = if holds == Holds::Size { SIZE_DIGITS } else { QUANTITY_DIGITS };
        match decimals {
            0 => Scale::Whole,
            decimals => Scale::Decimals { digits: digits + decimals, decimals },
        }
    }

    /// The least that holds all of these: units, and the decimals of one. `digits`: of the most units that there can be.
    /// `None` when no decimal is long enough.
    fn holding(all: impl Iterator<Item = (u128, u8)> + Clone, digits: u8) -> Option<Scale> {
        let decimals = all.clone().map(|(_, decimals)| decimals).max().unwrap_or(0);
        let digits = digits.saturating_add(decimals).min(DIGITS_MAX);
        let fits_word = |(units, _)| u64::try_from(units).is_ok();
        if decimals == 0 && all.clone().all(fits_word) {
            return Some(Scale::Whole);
        }
        let scale = Scale::Decimals { digits, decimals };
        let end = 10_u128.pow(u32::from(digits));
        let mut all = all;
        let fits = |(units, of)| scale.units(units, of).is_some_and(|units| units < end);
        all.all(fits).then_some(scale)
    }

    /// Units of so many decimals as units of this scale.
    fn units(self, units: u128, decimals: u8) -> Option<u128> {
        let places = match self {
            Scale::Whole => 0,
            Scale::Decimals { decimals, .. } => decimals,
        };
        let power = 10_u128.checked_pow(u32::from(places.checked_sub(decimals)?))?;
        units.checked_mul(power)
    }
}

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// An unsigned number of 64 bits.
    Number,
    /// An unsigned number of 32 bits.
    Small,
    /// Nanoseconds since 1970, UTC.
    Time,
    /// Text.
    Text,
    /// Units of 1e-9.
    Price,
    /// A quantity.
    Quantity(Scale),
    /// Yes or no.
    Flag,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: &'static str,
    stored: Stored,
    is_optional: bool,
}

impl Field {
    /// A column of the table of kinds, of an instrument whose quantities have units of so many decimals.
    pub(crate) fn of_kind(name: &'static str, holds: Holds, quantity_decimals: u8) -> Field {
        let (stored, is_optional) = match holds {
            Holds::Quantity | Holds::Size => {
                let scale = Scale::of(holds, quantity_decimals);
                (Stored::Quantity(scale), scale == Scale::Whole)
            }
            Holds::U64 => (Stored::Number, false),
            Holds::Time => (Stored::Time, true),
            Holds::U32
            | Holds::U16
            | Holds::Decimals
            | Holds::QuantityDecimals
            | Holds::UsualMs => (Stored::Small, false),
            Holds::Price => (Stored::Price, true),
            Holds::Text(_)
            | Holds::Flags
            | Holds::Side
            | Holds::Silence
            | Holds::BreakerState
            | Holds::BreakerReason => (Stored::Text, true),
        };
        Field { name, stored, is_optional }
    }

    /// The column as the text of a schema.
    fn text(&self) -> String {
        let name = self.name;
        let there = if self.is_optional { "optional" } else { "required" };
        match self.stored {
            Stored::Number | Stored::Quantity(Scale::Whole) => {
                format!("{there} int64 {name} (INTEGER(64,false));")
            }
            Stored::Time => format!("{there} int64 {name} (TIMESTAMP(NANOS,true));"),
            Stored::Quantity(Scale::Decimals { digits, decimals }) => format!(
                "{there} fixed_len_byte_array({DECIMAL_BYTES}) {name} (DECIMAL({digits},{decimals}));"
            ),
            Stored::Small => format!("{there} int32 {name} (INTEGER(32,false));"),
            Stored::Text => format!("{there} byte_array {name} (STRING);"),
            Stored::Price => {
                format!("{there} fixed_len_byte_array({PRICE_BYTES}) {name} (DECIMAL(19,9));")
            }
            Stored::Flag => format!("{there} boolean {name};"),
        }
    }
}

/// What stands in one column of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Nothing.
    Missing,
    /// A number or a time.
    Number(u64),
    /// Units of 1e-9, or [`PRICE_UNDEFINED`], which is nothing.
    Price(i64),
    /// Units of the file's scale.
    Quantity(u128),
    /// Text.
    Text(Cow<'static, str>),
    /// Yes or no.
    Flag(bool),
}

impl From<ColumnValue> for Cell {
    fn from(value: ColumnValue) -> Cell {
        match value {
            ColumnValue::Number(number) => Cell::Number(number),
            ColumnValue::Price(units) => Cell::Price(units),
            ColumnValue::Quantity(units) => Cell::Quantity(units),
            ColumnValue::Text(text) => text.map_or(Cell::Missing, Cell::Text),
        }
    }
}

/// One Parquet file.
pub(crate) struct ParquetFile<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    /// The columns of the row group that comes next.
    columns: Vec<Data>,
    rows: usize,
}

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file with these columns. `name`: of its schema. `said`: names and values about the file as a whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn new(
        out: W,
        name: &str,
        fields: &[Field],
        said: impl Iterator<Item = (&'static str, String)>,
    ) -> io::Result<ParquetFile<W>> {
        let schema = schema(name, fields).map_err(failed)?;
        let properties = Arc::new(properties(fields, said).map_err(failed)?);
        let writer = SerializedFileWriter::new(out, schema, properties).map_err(failed)?;
        let columns = fields.iter().map(Data::of).collect();
        Ok(ParquetFile { writer, columns, rows: 0 })
    }

    /// One row more of the row group that comes next. Its cells are in the order of the columns.
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = Cell>) {
        for (column, cell) in self.columns.iter_mut().zip(row) {
            column.push(cell);
        }
        self.rows += 1;
    }

    /// Rows of the row group that comes next.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Writes the row group, if it has rows.
    ///
    /// # Errors
    /// When it cannot be written, or a cell did not fit its column.
    pub(crate) fn end_group(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        self.rows = 0;
        self.write_group().map_err(failed)
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            if let Some(mut writer) = group.next_column()? {
                column.write(&mut writer)?;
                writer.close()?;
            }
            column.clear();
        }
        group.close().map(|_| ())
    }

    /// Where it is written to. What was written may be taken from there.
    pub(crate) fn out_mut(&mut self) -> &mut W {
        self.writer.inner_mut()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.end_group()?;
        let mut out = self.writer.into_inner().map_err(failed)?;
        out.flush()?;
        Ok(out)
    }
}

/// A column of one row group: the values that are there, and for each row whether there is one, where not all must be.
struct Data {
    field: Field,
    values: Values,
    there: Vec<i16>,
}

enum Values {
    Long(Vec<i64>),
    Int(Vec<i32>),
    Text(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
    Flag(Vec<bool>),
}

impl Data {
    fn of(field: &Field) -> Data {
        let values = match field.stored {
            Stored::Number | Stored::Time | Stored::Quantity(Scale::Whole) => {
                Values::Long(Vec::new())
            }
            Stored::Small => Values::Int(Vec::new()),
            Stored::Text => Values::Text(Vec::new()),
            Stored::Price | Stored::Quantity(Scale::Decimals { .. }) => Values::Fixed(Vec::new()),
            Stored::Flag => Values::Flag(Vec::new()),
        };
        Data { field: *field, values, there: Vec::new() }
    }

    /// What does not fit is not there. A column that must have it is then too short, and its row group fails.
    fn push(&mut self, cell: Cell) {
        let is_there = match (&mut self.values, self.field.stored, cell) {
            // Unsigned numbers stand in the signed column bit by bit; a time after 2262 does not.
            (Values::Long(values), Stored::Number, Cell::Number(number)) => {
                values.push(number.cast_signed());
                true
            }
            (Values::Long(values), Stored::Time, Cell::Number(number)) => {
                let number = i64::try_from(number).ok();
                values.extend(number);
                number.is_some()
            }
            (Values::Long(values), _, Cell::Quantity(units)) => {
                // As all unsigned numbers. No node makes a size that does not fit; a made-up one is no value.
                let number = u64::try_from(units).ok();
                values.extend(number.map(u64::cast_signed));
                number.is_some()
            }
            (Values::Int(values), _, Cell::Number(number)) => {
                values.push(u32::try_from(number).unwrap_or(u32::MAX).cast_signed());
                true
            }
            (Values::Text(values), _, Cell::Text(text)) => {
                values.push(ByteArray::from(text.as_ref()));
                true
            }
            (Values::Fixed(values), _, Cell::Price(units)) if units != PRICE_UNDEFINED => {
                let bytes = i128::from(units).to_be_bytes();
                values.push(bytes[bytes.len() - PRICE_BYTES..].to_vec().into());
                true
            }
            (Values::Fixed(values), _, Cell::Quantity(units)) => {
                values.push(units.to_be_bytes().to_vec().into());
                true
            }
            (Values::Flag(values), _, Cell::Flag(flag)) => {
                values.push(flag);
                true
            }
            _ => false,
        };
        self.there.push(i16::from(is_there));
    }

    fn write(&self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let there = self.field.is_optional.then_some(&self.there[..]);
        let written = match &self.values {
            Values::Long(values) => writer.typed::<Int64Type>().write_batch(values, there, None),
            Values::Int(values) => writer.typed::<Int32Type>().write_batch(values, there, None),
            Values::Text(values) => {
                writer.typed::<ByteArrayType>().write_batch(values, there, None)
            }
            Values::Fixed(values) => {
                writer.typed::<FixedLenByteArrayType>().write_batch(values, there, None)
            }
            Values::Flag(values) => writer.typed::<BoolType>().write_batch(values, there, None),
        };
        written.map(|_| ())
    }

    /// Ready for the next row group, with the room that this one had.
    fn clear(&mut self) {
        self.there.clear();
        match &mut self.values {
            Values::Long(values) => values.clear(),
            Values::Int(values) => values.clear(),
            Values::Text(values) => values.clear(),
            Values::Fixed(values) => values.clear(),
            Values::Flag(values) => values.clear(),
        }
    }
}

fn schema(name: &str, fields: &[Field]) -> Result<TypePtr, ParquetError> {
    let fields: Vec<String> = fields.iter().map(Field::text).collect();
    parse_message_type(&format!("message {name} {{ {} }}", fields.join(" "))).map(Arc::new)
}

fn properties(
    fields: &[Field],
    said: impl Iterator<Item = (&'static str, String)>,
) -> Result<WriterProperties, ParquetError> {
    let pair = |(name, value)| KeyValue::new(format!("pregao.{name}"), value);
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("pregao {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(said.map(pair).collect()))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?));
    // Numbers that rise have hardly two alike: no dictionary, but small differences.
    for Field { name, stored, .. } in fields {
        let name = *name;
        if *stored == Stored::Time || name == "seq" || name == "instrument_seq" {
            let path = ColumnPath::from(name);
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(builder.build())
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        error => io::Error::other(error),
    }
}
