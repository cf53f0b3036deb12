//! What the columns of a file hold, read off its row type: the same whatever values a file has.

use super::wire::{Wire, columns};
use serde_reflection::{ContainerFormat, Format, Tracer, TracerConfig};

/// What the fields of a column are; any may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Integer,
    Number,
    Boolean,
    Text,
}

/// One column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

/// The columns of a row type's file, in order.
pub(super) fn typed_columns<R: Wire>() -> Vec<Column> {
    let mut tracer = Tracer::new(TracerConfig::default());
    let traced = tracer.trace_simple_type::<R>().expect("a row is a struct of plain fields");
    // An enumeration counts as text, whichever of its values were seen.
    let registry = tracer.registry_unchecked();
    let Format::TypeName(name) = traced.0 else { unreachable!("a row is a struct") };
    let ContainerFormat::Struct(fields) = &registry[&name] else { unreachable!("a row is a struct") };
    let kind_of = |name: &String| {
        let field = fields.iter().find(|field| field.name == *name).expect("columns are fields");
        kind(&field.value)
    };
    columns::<R>().into_iter().map(|name| Column { kind: kind_of(&name), name }).collect()
}

fn kind(format: &Format) -> ColumnKind {
    match format {
        Format::Option(inner) => kind(inner),
        Format::Bool => ColumnKind::Boolean,
        Format::F32 | Format::F64 => ColumnKind::Number,
        Format::U8 | Format::U16 | Format::U32 | Format::U64 | Format::I32 | Format::I64 => ColumnKind::Integer,
        // Names of an enumeration's values.
        _ => ColumnKind::Text,
    }
}
