//! Export and import: lines of JSON that a person can read and a program can
//! verify.
//!
//! ```text
//! {"signalbox_export":1,"revision":7}
//! {"table":"vcard","version":1,"rows":1}
//! {"row":{"owner":"alice","xml":"<vCard/>"}}
//! {"lines":3,"sha256":"…"}
//! ```
//!
//! The last line is the digest of everything before it.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use store::{Action, Operation, Store, Transaction, key};

use crate::{Error, Schema, tables};

/// Version of the format itself.
const FORMAT: u64 = 1;

fn sha256(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, bytes).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Writes the tables of these names, or all.
pub(crate) fn export(store: &Store, names: &[String]) -> Result<Vec<u8>, Error> {
    let schemas: Vec<&Schema> = if names.is_empty() {
        tables::ALL.to_vec()
    } else {
        names
            .iter()
            .map(|name| find(name))
            .collect::<Result<_, _>>()?
    };
    let names: Vec<&str> = schemas.iter().map(|schema| schema.table).collect();
    let (contents, revision) = store.tables(&names)?;
    let mut file = Vec::new();
    let mut lines = 0_u64;
    let mut line = |file: &mut Vec<u8>, value: Value| {
        file.extend(value.to_string().as_bytes());
        file.push(b'\n');
        lines += 1;
    };
    line(
        &mut file,
        json!({ "signalbox_export": FORMAT, "revision": revision }),
    );
    for (schema, rows) in schemas.iter().zip(contents) {
        line(
            &mut file,
            json!({ "table": schema.table, "version": schema.version, "rows": rows.len() }),
        );
        for entry in rows {
            let row = schema.decode(&entry.row.content, entry.row.version)?;
            line(&mut file, json!({ "row": row }));
        }
    }
    let closing = json!({ "lines": lines, "sha256": sha256(&file) });
    file.extend(closing.to_string().as_bytes());
    file.push(b'\n');
    Ok(file)
}

/// What an import file would do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) transaction: Transaction,
    pub(crate) tables: u64,
    pub(crate) rows: u64,
}

/// Reads and verifies a whole file.
pub(crate) fn plan(file: &[u8]) -> Result<Plan, Error> {
    let body = verify(file)?;
    let mut lines = body.split(|byte| *byte == b'\n').enumerate();
    let head = lines
        .next()
        .map(|(_, line)| parse(1, line))
        .transpose()?
        .unwrap_or_default();
    if head["signalbox_export"].as_u64() != Some(FORMAT) {
        return Err(Error::Invalid(format!(
            "line 1 of the export says format {}; this node reads format {FORMAT}",
            head["signalbox_export"]
        )));
    }
    let mut plan = Plan {
        transaction: Transaction::default(),
        tables: 0,
        rows: 0,
    };
    let mut current: Option<(&Schema, u32, u64)> = None;
    for (index, line) in lines {
        if line.is_empty() {
            continue;
        }
        let number = index + 1;
        let at = |error: Error| Error::Invalid(format!("line {number} of the export: {error}"));
        let mut value = parse(number, line)?;
        if let Some(name) = value["table"].as_str() {
            complete(current)?;
            let schema = find(name).map_err(at)?;
            let version = value["version"]
                .as_u64()
                .and_then(|version| u32::try_from(version).ok());
            let rows = value["rows"].as_u64();
            let (Some(version), Some(rows)) = (version, rows) else {
                return Err(at(Error::Invalid(
                    "a table has a version and a number of rows".into(),
                )));
            };
            plan.tables += 1;
            plan.transaction.operations.push(Operation {
                action: Action::Clear.into(),
                table: name.into(),
                ..Operation::default()
            });
            current = Some((schema, version, rows));
        } else if let Some((schema, version, left)) = &mut current {
            let encoded = schema
                .encode(value["row"].take(), *version)
                .map_err(|error| at(error.into()))?;
            *left = left.checked_sub(1).ok_or_else(|| {
                at(Error::Invalid(format!(
                    "table {} has more rows than announced",
                    schema.table
                )))
            })?;
            plan.rows += 1;
            plan.transaction.operations.push(Operation {
                // An insert: a key that comes twice is refused.
                action: Action::Insert.into(),
                table: schema.table.into(),
                key: key::encode(&encoded.key),
                row: encoded.content,
                version: schema.version,
                revision: 0,
            });
        } else {
            return Err(at(Error::Invalid(
                "a row stands before the first table".into(),
            )));
        }
    }
    complete(current)?;
    Ok(plan)
}

/// The file without its last line, whose digest must be that of the rest.
fn verify(file: &[u8]) -> Result<&[u8], Error> {
    let cut = || {
        Error::Invalid(
            "the export is cut short or was changed: its last line is not the digest of the rest. \
             Nothing was changed; export it again"
                .into(),
        )
    };
    let trimmed = file.strip_suffix(b"\n").ok_or_else(cut)?;
    let start = trimmed
        .iter()
        .rposition(|byte| *byte == b'\n')
        .ok_or_else(cut)?
        + 1;
    let (body, last) = trimmed.split_at(start);
    let closing: Value = serde_json::from_slice(last).map_err(|_| cut())?;
    if closing["sha256"].as_str() == Some(&sha256(body)) {
        Ok(body)
    } else {
        Err(cut())
    }
}

fn complete(current: Option<(&Schema, u32, u64)>) -> Result<(), Error> {
    match current {
        Some((schema, _, left)) if left > 0 => Err(Error::Invalid(format!(
            "table {} of the export has {left} rows less than announced",
            schema.table
        ))),
        _ => Ok(()),
    }
}

fn parse(number: usize, line: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(line)
        .map_err(|error| Error::Invalid(format!("line {number} of the export is no JSON: {error}")))
}

/// The schema of a table, or an error that names those there are.
pub(crate) fn find(name: &str) -> Result<&'static Schema, Error> {
    tables::schema(name).ok_or_else(|| {
        let names: Vec<_> = tables::ALL.iter().map(|schema| schema.table).collect();
        Error::Invalid(format!(
            "there is no table {name:?}; the tables are {}",
            names.join(", ")
        ))
    })
}
