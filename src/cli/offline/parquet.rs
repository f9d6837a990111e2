//! Rows as a Parquet file, column by column.
//!
//! Without the `arrow` crates: a batch of frames is one row group, and its columns are plain vectors.
//! Prices are DECIMAL(19, 9), the least that holds every 64-bit price, so that a product with a
//! whole quantity still fits the 38 digits that readers have. Quantities are whole numbers where the instrument's are, and
//! else decimals of its scale. A file has the rows of one instrument, so one scale is right for all of them.
//!
//! # Decisions
//!
//! * Arrow would be most of the build, and `export` does not need it: the column writers of `parquet`
//!   suffice for plain columns.

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{
    ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

use super::Identity;
use super::rows::{self, Rows};
use crate::render::ColumnValue as Value;
use crate::wire::{Column, Frame, Holds, PRICE_UNDEFINED};

/// Bytes of a DECIMAL(19, 9): 2^71 is more than 10^19.
const PRICE_BYTES: usize = 9;
/// Bytes of a decimal of up to 38 digits.
const DECIMAL_BYTES: usize = 16;
/// Digits of the most units that a trade, and that one side of a quote can have.
const QUANTITY_DIGITS: u8 = 20;
const SIZE_DIGITS: u8 = 24;

/// One Parquet file.
pub(super) struct ParquetWriter {
    writer: SerializedFileWriter<BufWriter<File>>,
    quantity_decimals: u8,
}

impl ParquetWriter {
    /// Begins a file for rows of this kind, of an instrument whose quantities have units of so many decimals.
    pub(super) fn new(
        file: File,
        rows: Rows,
        identity: &Identity,
        quantity_decimals: u8,
    ) -> io::Result<ParquetWriter> {
        let schema = schema(rows, quantity_decimals).map_err(failed)?;
        let properties = Arc::new(properties(rows, identity).map_err(failed)?);
        let writer = SerializedFileWriter::new(BufWriter::new(file), schema, properties);
        Ok(ParquetWriter { writer: writer.map_err(failed)?, quantity_decimals })
    }

    /// Writes these frames as one row group.
    pub(super) fn write(&mut self, rows: Rows, frames: &[Frame]) -> io::Result<()> {
        let data = |column: &Column| Data::of(column.holds, self.quantity_decimals);
        let mut columns: Vec<Data> = rows.columns().map(data).collect();
        let mut row: Vec<Value> = Vec::new();
        for frame in frames {
            rows::values(frame, &mut row);
            for (column, value) in columns.iter_mut().zip(&row) {
                column.push(value);
            }
        }
        self.write_group(&columns).map_err(failed)
    }

    fn write_group(&mut self, columns: &[Data]) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in columns {
            if let Some(mut writer) = group.next_column()? {
                column.write(&mut writer)?;
                writer.close()?;
            }
        }
        group.close().map(|_| ())
    }

    /// Ends the file.
    pub(super) fn finish(self) -> io::Result<()> {
        let mut file = self.writer.into_inner().map_err(failed)?;
        io::Write::flush(&mut file)
    }
}

/// A column of one row group: the values that are there, and for each row whether there is one.
enum Data {
    Long { values: Vec<i64>, is_time: bool, there: Vec<i16> },
    Int { values: Vec<i32> },
    Text { values: Vec<ByteArray>, there: Vec<i16> },
    Price { values: Vec<FixedLenByteArray>, there: Vec<i16> },
    Whole { values: Vec<i64>, there: Vec<i16> },
    Fraction { values: Vec<FixedLenByteArray>, digits: u8, decimals: u8 },
}

impl Data {
    fn of(holds: Holds, quantity_decimals: u8) -> Data {
        match holds {
            Holds::Quantity | Holds::Size if quantity_decimals == 0 => {
                Data::Whole { values: Vec::new(), there: Vec::new() }
            }
            Holds::Quantity | Holds::Size => {
                let digits = if holds == Holds::Size { SIZE_DIGITS } else { QUANTITY_DIGITS };
                let digits = digits + quantity_decimals;
                Data::Fraction { values: Vec::new(), digits, decimals: quantity_decimals }
            }
            Holds::U64 => Data::Long { values: Vec::new(), is_time: false, there: Vec::new() },
            Holds::Time => Data::Long { values: Vec::new(), is_time: true, there: Vec::new() },
            Holds::U32
            | Holds::U16
            | Holds::Decimals
            | Holds::QuantityDecimals
            | Holds::UsualMs => Data::Int { values: Vec::new() },
            Holds::Price => Data::Price { values: Vec::new(), there: Vec::new() },
            Holds::Text(_)
            | Holds::Flags
            | Holds::Side
            | Holds::Silence
            | Holds::BreakerState
            | Holds::BreakerReason => Data::Text { values: Vec::new(), there: Vec::new() },
        }
    }

    fn push(&mut self, value: &Value) {
        match (self, value) {
            (Data::Long { values, is_time, there }, Value::Number(number)) => {
                // Unsigned numbers stand in the signed column bit by bit; a time after 2262 does not.
                let is_there = !*is_time || i64::try_from(*number).is_ok();
                there.push(i16::from(is_there));
                if is_there {
                    values.push(number.cast_signed());
                }
            }
            (Data::Int { values }, Value::Number(number)) => {
                values.push(u32::try_from(*number).unwrap_or(u32::MAX).cast_signed());
            }
            (Data::Text { values, there }, Value::Text(text)) => {
                there.push(i16::from(text.is_some()));
                values.extend(text.as_deref().map(ByteArray::from));
            }
            (Data::Price { values, there }, Value::Price(units)) => {
                there.push(i16::from(*units != PRICE_UNDEFINED));
                if *units != PRICE_UNDEFINED {
                    let bytes = i128::from(*units).to_be_bytes();
                    values.push(bytes[bytes.len() - PRICE_BYTES..].to_vec().into());
                }
            }
            (Data::Whole { values, there }, Value::Quantity(units)) => {
                // As all unsigned numbers. No node makes a size that does not fit; a made-up one is no value.
                let number = u64::try_from(*units).ok();
                there.push(i16::from(number.is_some()));
                values.extend(number.map(u64::cast_signed));
            }
            (Data::Fraction { values, .. }, Value::Quantity(units)) => {
                values.push(units.to_be_bytes().to_vec().into());
            }
            // The row is made by the same table of columns.
            _ => {}
        }
    }

    fn write(&self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let written = match self {
            Data::Long { values, is_time, there } => {
                let there = is_time.then_some(&there[..]);
                writer.typed::<Int64Type>().write_batch(values, there, None)
            }
            Data::Whole { values, there } => {
                writer.typed::<Int64Type>().write_batch(values, Some(there), None)
            }
            Data::Fraction { values, .. } => {
                writer.typed::<FixedLenByteArrayType>().write_batch(values, None, None)
            }
            Data::Int { values } => writer.typed::<Int32Type>().write_batch(values, None, None),
            Data::Text { values, there } => {
                writer.typed::<ByteArrayType>().write_batch(values, Some(there), None)
            }
            Data::Price { values, there } => {
                writer.typed::<FixedLenByteArrayType>().write_batch(values, Some(there), None)
            }
        };
        written.map(|_| ())
    }
}

fn schema(rows: Rows, quantity_decimals: u8) -> Result<TypePtr, ParquetError> {
    let field = |column: &Column| {
        let name = column.name;
        match Data::of(column.holds, quantity_decimals) {
            Data::Long { is_time: false, .. } => {
                format!("required int64 {name} (INTEGER(64,false));")
            }
            Data::Long { is_time: true, .. } => {
                format!("optional int64 {name} (TIMESTAMP(NANOS,true));")
            }
            Data::Whole { .. } => format!("optional int64 {name} (INTEGER(64,false));"),
            Data::Fraction { digits, decimals, .. } => format!(
                "required fixed_len_byte_array({DECIMAL_BYTES}) {name} (DECIMAL({digits},{decimals}));"
            ),
            Data::Int { .. } => format!("required int32 {name} (INTEGER(32,false));"),
            Data::Text { .. } => format!("optional byte_array {name} (STRING);"),
            Data::Price { .. } => {
                format!("optional fixed_len_byte_array({PRICE_BYTES}) {name} (DECIMAL(19,9));")
            }
        }
    };
    let fields: Vec<String> = rows.columns().map(field).collect();
    let message = format!("message {} {{ {} }}", rows.name(), fields.join(" "));
    parse_message_type(&message).map(Arc::new)
}

fn properties(rows: Rows, identity: &Identity) -> Result<WriterProperties, ParquetError> {
    let pair =
        |(name, value): &(&str, String)| KeyValue::new(format!("pregao.{name}"), value.clone());
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("pregao {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(identity.0.iter().map(pair).collect()))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?));
    // Numbers that rise have hardly two alike: no dictionary, but small differences.
    for Column { name, holds, .. } in rows.columns() {
        let name = *name;
        if *holds == Holds::Time || name == "seq" || name == "instrument_seq" {
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
