//! JSON Schemas of the TOML files, for editors: made from the types that read them, so that they cannot drift apart.

use super::draft_file::DraftSpec;
use super::precision::Quantization;
use super::range::Range;
use super::schema::Scenario;
use super::stop_spec::StopSpec;
use super::sweep::Precision;
use super::{machine_file, model_file};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The files that have a schema, by the name of their kind.
pub const KINDS: [&str; 4] = ["scenario", "draft", "machine", "model"];

/// The schema of one of [`KINDS`].
pub fn json_schema_of(kind: &str) -> Option<Value> {
    let (schema, title) = match kind {
        "scenario" => (schema_for!(Scenario), "A scenario of ridgepoint"),
        "draft" => (schema_for!(DraftSpec), "A drafter of ridgepoint"),
        "machine" => (machine_file::json_schema(), "A machine's data sheet for ridgepoint"),
        "model" => (model_file::json_schema(), "A model by name for ridgepoint"),
        _ => return None,
    };
    let mut schema = schema.to_value();
    schema["title"] = json!(title);
    if kind == "draft" {
        describe_drafts(&mut schema);
    }
    Some(schema)
}

/// A drafter's `description` and its `[stop]` table are read beside the fields of its kind.
fn describe_drafts(schema: &mut Value) {
    let mut stop = schema_for!(StopSpec).to_value();
    if let Some(stop) = stop.as_object_mut() {
        stop.remove("$schema");
        stop.remove("title");
    }
    for branch in schema["oneOf"].as_array_mut().into_iter().flatten() {
        branch["properties"]["description"] = json!({ "description": "One sentence for people.", "type": "string" });
        branch["properties"]["stop"] = stop.clone();
    }
}

/// A string of a form that the type's own reader knows.
macro_rules! text_schema {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text_schema!(Range, "Range", {
    "description": "A set of integers: 5, \"1-8\", \"1-17+4\" (step), \"1-128*2\" (factor), several separated by commas, or an array of these",
    "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^ *[0-9]+( *- *[0-9]+( *[+*] *[0-9]+)?)?( *, *[0-9]+( *- *[0-9]+( *[+*] *[0-9]+)?)?)* *$" },
        { "type": "array", "items": { "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }] } }
    ]
});
text_schema!(Quantization, "Quantization", {
    "description": "Bits a weight, or bits:group, such as \"4\" or \"4:64\"",
    "type": "string",
    "pattern": "^(2|3|4|5|6|8)(:(32|64|128))?$"
});
text_schema!(Precision, "Precision", {
    "description": "\"stored\", a dtype, a quantisation, or both: \"4:64 float32\"",
    "type": "string",
    "pattern": "^ *(stored|((float32|float16|bfloat16)|(2|3|4|5|6|8)(:(32|64|128))?)( +((float32|float16|bfloat16)|(2|3|4|5|6|8)(:(32|64|128))?))?) *$"
});
