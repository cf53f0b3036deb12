//! CSV files of a results folder as Parquet, with the types that their row types have: an empty field is a null.

use super::columns::{Column, ColumnKind};
use crate::usage;
use anyhow::{Context, Result};
use parquet::basic::{Compression, LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// The bytes of a Parquet file with the rows of the CSV file at `path`, which must have these columns.
///
/// # Errors
/// A file with other columns, or a field that is not of its column's kind: named with its line.
pub fn parquet_of(path: &Path, columns: &[Column]) -> Result<Vec<u8>> {
    let shown = path.display();
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read {shown}"))?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    if reader.headers()?.iter().ne(names.iter().copied()) {
        return Err(usage!(
            "{shown}: its columns are not those of results/README.md; rebuild it with ridgepoint analyze"
        ));
    }
    let records: Vec<csv::StringRecord> =
        reader.records().collect::<Result<_, _>>().with_context(|| format!("{shown}: is damaged"))?;
    let fields = columns.iter().map(|column| Ok(Arc::new(field(column)?))).collect::<Result<_>>()?;
    let schema = Arc::new(Type::group_type_builder("row").with_fields(fields).build()?);
    let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, properties)?;
    let mut group = file.next_row_group()?;
    for (place, column) in columns.iter().enumerate() {
        let of = |line: usize, text: &str| {
            usage!(
                "{shown}:{}: {}: '{text}' is no {}",
                line + 2,
                column.name,
                format!("{:?}", column.kind).to_lowercase()
            )
        };
        let texts = || records.iter().map(|record| &record[place]).enumerate();
        match column.kind {
            ColumnKind::Integer => write::<Int64Type, _>(&mut group, texts(), &|text| text.parse().ok(), &of)?,
            ColumnKind::Number => write::<DoubleType, _>(&mut group, texts(), &|text| text.parse().ok(), &of)?,
            ColumnKind::Boolean => write::<BoolType, _>(&mut group, texts(), &|text| text.parse().ok(), &of)?,
            ColumnKind::Text => {
                write::<ByteArrayType, _>(&mut group, texts(), &|text| Some(ByteArray::from(text)), &of)?
            }
        }
    }
    group.close()?;
    Ok(file.into_inner()?)
}

fn field(column: &Column) -> Result<Type> {
    let (physical, logical) = match column.kind {
        ColumnKind::Integer => (PhysicalType::INT64, None),
        ColumnKind::Number => (PhysicalType::DOUBLE, None),
        ColumnKind::Boolean => (PhysicalType::BOOLEAN, None),
        ColumnKind::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let builder = Type::primitive_type_builder(&column.name, physical).with_repetition(Repetition::OPTIONAL);
    Ok(builder.with_logical_type(logical).build()?)
}

/// Writes one column: what `parse` makes of each text, nulls where it is empty.
fn write<'a, T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    texts: impl Iterator<Item = (usize, &'a str)>,
    parse: &dyn Fn(&str) -> Option<T::T>,
    refused: &dyn Fn(usize, &str) -> anyhow::Error,
) -> Result<()> {
    let (mut values, mut there) = (Vec::new(), Vec::new());
    for (line, text) in texts {
        there.push(i16::from(!text.is_empty()));
        if !text.is_empty() {
            values.push(parse(text).ok_or_else(|| refused(line, text))?);
        }
    }
    let mut column = group.next_column()?.context("the schema has a column for each")?;
    column.typed::<T>().write_batch(&values, Some(&there), None)?;
    Ok(column.close()?)
}
