//! Schemas: what a table's rows look like, and errors that say what is
//! allowed.

use serde_json::{Map, Value};
use store::key::Part;

/// What a table's rows look like.
#[derive(Debug)]
pub struct Schema {
    /// Name of the table.
    pub table: &'static str,
    /// Counts up with each change of the columns.
    pub version: u32,
    /// The columns that identify a row, in order. Text or whole numbers.
    pub key: &'static [&'static str],
    /// The columns, the key's included.
    pub columns: &'static [Column],
    /// How rows of older versions become rows of this one, oldest first.
    pub migrations: &'static [Migration],
}

/// A step from one schema version to the next.
#[derive(Debug)]
pub struct Migration {
    /// The version that the step leads to.
    pub to: u32,
    /// What it does to a row.
    pub change: fn(&mut Map<String, Value>),
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may be missing.
    pub optional: bool,
    /// Whether only those are told it who check it, such as keys.
    pub secret: bool,
}

/// What a column holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text of at most so many bytes in UTF-8.
    Text(usize),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number between the two, both included.
    Integer(i64, i64),
    /// True or false.
    Flag,
    /// At most so many items of one kind.
    List(usize, &'static Kind),
    /// Columns of its own.
    Record(&'static [Column]),
}

impl Column {
    /// A column that each row has.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            optional: false,
            secret: false,
        }
    }

    /// A column of text of at most `max` bytes.
    pub const fn text(name: &'static str, max: usize) -> Self {
        Self::new(name, Kind::Text(max))
    }

    /// The same column, which a row may lack.
    pub const fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    /// The same column, which only those are told who check it.
    pub const fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }
}

/// A row or key that does not fit its table. The text names table, field and
/// what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// A row in the form that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The key's columns.
    pub key: Vec<Part>,
    /// The row: a JSON object with its columns in the schema's order, so that
    /// equal rows are equal bytes.
    pub content: Vec<u8>,
}

impl Schema {
    /// Brings a row of any version up to this schema's into its stored form,
    /// or says what is wrong with it.
    pub fn encode(&self, row: Value, version: u32) -> Result<Encoded, Invalid> {
        let Value::Object(mut row) = row else {
            return Err(Invalid(format!(
                "a row of table {} is a JSON object",
                self.table
            )));
        };
        if version > self.version {
            self.refuse_newer(&row, version)?;
        }
        self.migrate(&mut row, version);
        let mut content = Vec::with_capacity(128);
        write_record(
            &Place {
                table: self.table,
                path: "",
            },
            self.columns,
            &row,
            &mut content,
        )?;
        let mut key = Vec::with_capacity(self.key.len());
        for name in self.key {
            key.push(match row.get(*name) {
                Some(Value::String(text)) => Part::Text(text.clone()),
                Some(Value::Number(number)) => Part::Integer(number.as_i64().unwrap_or_default()),
                _ => {
                    return Err(Invalid(format!(
                        "{}.{name} is part of the key and missing",
                        self.table
                    )));
                }
            });
        }
        Ok(Encoded { key, content })
    }

    fn refuse_newer(&self, row: &Map<String, Value>, version: u32) -> Result<(), Invalid> {
        match row.keys().find(|name| self.column(name).is_none()) {
            None => Ok(()),
            Some(unknown) => Err(Invalid(format!(
                "the row of table {} is of schema version {version} and has the column {unknown:?}, \
                 which version {}, the newest that this node knows, does not have. Upgrade this \
                 node first",
                self.table, self.version
            ))),
        }
    }

    /// Brings a stored row to this schema's version. Columns of a newer
    /// version are left out.
    pub fn decode(&self, content: &[u8], version: u32) -> Result<Value, Invalid> {
        let unreadable = |error| {
            Invalid(format!(
                "a stored row of table {} is not readable: {error}",
                self.table
            ))
        };
        let mut row: Map<String, Value> = serde_json::from_slice(content).map_err(unreadable)?;
        self.migrate(&mut row, version);
        if version > self.version {
            row.retain(|name, _| self.column(name).is_some());
        }
        Ok(Value::Object(row))
    }

    /// Whether some column is only for those who check it.
    pub fn has_secrets(&self) -> bool {
        self.columns.iter().any(|column| column.secret)
    }

    /// A stored row without its secret columns, as a JSON object of this
    /// schema's version.
    pub fn without_secrets(&self, content: &[u8], version: u32) -> Result<Vec<u8>, Invalid> {
        let mut row = self.decode(content, version)?;
        if let Some(row) = row.as_object_mut() {
            row.retain(|name, _| self.column(name).is_some_and(|column| !column.secret));
        }
        Ok(row.to_string().into_bytes())
    }

    fn migrate(&self, row: &mut Map<String, Value>, version: u32) {
        for step in self.migrations.iter().filter(|step| step.to > version) {
            (step.change)(row);
        }
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Reads the first columns of a key from text.
    pub fn key_prefix<S: AsRef<str>>(&self, key: &[S]) -> Result<Vec<Part>, Invalid> {
        if key.len() > self.key.len() {
            return Err(Invalid(format!(
                "the key of table {} has {} columns ({}), not {}",
                self.table,
                self.key.len(),
                self.key.join(", "),
                key.len()
            )));
        }
        let parts = self.key.iter().zip(key).map(|(name, text)| {
            let text = text.as_ref();
            match self.column(name).map(|column| column.kind) {
                Some(Kind::Integer(..)) => text.parse().map(Part::Integer).map_err(|_| {
                    Invalid(format!(
                        "{}.{name} is a whole number, not {text:?}",
                        self.table
                    ))
                }),
                _ => Ok(Part::Text(text.into())),
            }
        });
        parts.collect()
    }

    /// Reads a whole key from text.
    pub fn full_key<S: AsRef<str>>(&self, key: &[S]) -> Result<Vec<Part>, Invalid> {
        if key.len() < self.key.len() {
            return Err(Invalid(format!(
                "the key of table {} is {}; {} of {} given",
                self.table,
                self.key.join(", "),
                key.len(),
                self.key.len()
            )));
        }
        self.key_prefix(key)
    }
}

/// Where in a row we are, for errors.
struct Place<'a> {
    table: &'a str,
    path: &'a str,
}

impl Place<'_> {
    fn error(&self, what: impl std::fmt::Display) -> Invalid {
        Invalid(format!("{}.{} {what}", self.table, self.path))
    }

    fn inside(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.into()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

fn write_record(
    place: &Place<'_>,
    columns: &[Column],
    row: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), Invalid> {
    if let Some(unknown) = row
        .keys()
        .find(|name| !columns.iter().any(|column| column.name == *name))
    {
        let path = place.inside(unknown);
        let names: Vec<_> = columns.iter().map(|column| column.name).collect();
        return Err(Invalid(format!(
            "{}.{path} is unknown; the columns are {}",
            place.table,
            names.join(", ")
        )));
    }
    out.push(b'{');
    let mut first = true;
    for column in columns {
        let path = place.inside(column.name);
        let place = Place {
            table: place.table,
            path: &path,
        };
        let value = row.get(column.name).filter(|value| !value.is_null());
        let Some(value) = value else {
            if column.optional {
                continue;
            }
            return Err(place.error(format_args!("is missing; it is {}", column.kind)));
        };
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_json(&Value::from(column.name), out);
        out.push(b':');
        write_value(&place, &column.kind, value, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_value(
    place: &Place<'_>,
    kind: &Kind,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), Invalid> {
    match (kind, value) {
        (Kind::Text(max), Value::String(text)) => {
            if text.len() > *max {
                return Err(place.error(format_args!(
                    "is {} bytes long; at most {max} are allowed",
                    text.len()
                )));
            }
        }
        (Kind::Choice(words), Value::String(text)) => {
            if !words.contains(&text.as_str()) {
                return Err(place.error(format_args!("is {kind}, not {text:?}")));
            }
        }
        (Kind::Integer(min, max), Value::Number(number)) => {
            if !number
                .as_i64()
                .is_some_and(|number| (*min..=*max).contains(&number))
            {
                return Err(place.error(format_args!("is {kind}, not {number}")));
            }
        }
        (Kind::Flag, Value::Bool(_)) => {}
        (Kind::List(max, kind), Value::Array(items)) => {
            if items.len() > *max {
                return Err(place.error(format_args!(
                    "has {} items; at most {max} are allowed",
                    items.len()
                )));
            }
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let path = format!("{}[{index}]", place.path);
                write_value(
                    &Place {
                        table: place.table,
                        path: &path,
                    },
                    kind,
                    item,
                    out,
                )?;
            }
            out.push(b']');
            return Ok(());
        }
        (Kind::Record(columns), Value::Object(row)) => {
            return write_record(place, columns, row, out);
        }
        _ => {
            let found = match value {
                Value::Null => "nothing",
                Value::Bool(_) => "a flag",
                Value::Number(_) => "a number",
                Value::String(_) => "text",
                Value::Array(_) => "a list",
                Value::Object(_) => "an object",
            };
            return Err(place.error(format_args!("is {kind}, not {found}")));
        }
    }
    write_json(value, out);
    Ok(())
}

fn write_json(value: &Value, out: &mut Vec<u8>) {
    // Display of a value is its JSON and cannot fail.
    out.extend(value.to_string().as_bytes());
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(max) => write!(f, "text of at most {max} bytes"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Integer(min, max) => write!(f, "a whole number from {min} to {max}"),
            Self::Flag => f.write_str("true or false"),
            Self::List(max, kind) => write!(f, "a list of at most {max} items, each {kind}"),
            Self::Record(columns) => {
                let names: Vec<_> = columns.iter().map(|column| column.name).collect();
                write!(f, "an object with {}", names.join(", "))
            }
        }
    }
}
