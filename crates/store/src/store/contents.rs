//! Tables as a whole: compared with those of another replica, and replaced by
//! them.

use std::collections::BTreeMap;

use super::{Entry, Store, TableRecord, row_key, row_range};
use crate::record;
use crate::{Batch, Digest, Error};

/// Tables of one moment, with their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The place in the log that they are of.
    pub index: u64,
    /// The revision that they are of.
    pub revision: u64,
    /// The tables.
    pub tables: Vec<TableContents>,
}

/// A table with all its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableContents {
    /// The table.
    pub table: String,
    /// Its rows in key order.
    pub rows: Vec<Entry>,
}

/// A table's rows, told by key and digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRows {
    /// The table.
    pub table: String,
    /// The digest of each row. A row that is damaged has the empty one, which
    /// is no other row's.
    pub rows: BTreeMap<Vec<u8>, Digest>,
}

/// How many rows of a table differ from a reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows that both have, with different content.
    pub differing: u64,
    /// Rows that only the reference has.
    pub missing: u64,
    /// Rows that the reference does not have.
    pub extra: u64,
}

/// Compares rows with those of a reference.
pub fn difference(
    ours: &BTreeMap<Vec<u8>, Digest>,
    reference: &BTreeMap<Vec<u8>, Digest>,
) -> Difference {
    let mut found = Difference::default();
    for (key, digest) in ours {
        match reference.get(key) {
            None => found.extra += 1,
            Some(other) if other != digest => found.differing += 1,
            Some(_) => {}
        }
    }
    let missing = reference.keys().filter(|key| !ours.contains_key(*key));
    found.missing = missing.count() as u64;
    found
}

impl Entry {
    /// The digest of the row, as the tables' digests are made of.
    pub fn digest(&self) -> Digest {
        Digest::of_row(&self.key, &self.row.content)
    }
}

impl Store {
    /// These tables, or all that there are, with their rows. Fails at a row
    /// that is damaged.
    pub fn contents(&self, tables: &[String]) -> Result<Contents, Error> {
        let state = self.state();
        let mut names: Vec<String> = tables.to_vec();
        if names.is_empty() {
            names = state.meta.tables.keys().cloned().collect();
        }
        let mut contents = Contents {
            index: state.meta.applied.index,
            revision: state.meta.revision,
            tables: Vec::new(),
        };
        for table in names {
            let rows = self.scan_rows(&table, &[])?;
            contents.tables.push(TableContents { table, rows });
        }
        Ok(contents)
    }

    /// The rows of a table by their digests.
    pub fn row_digests(&self, table: &str) -> Result<TableRows, Error> {
        let _moment = self.state();
        let (from, to) = row_range(table, &[]);
        let skip = row_key(table, &[]).len();
        let mut rows = BTreeMap::new();
        for pair in self.backend.scan(&from, &to) {
            let (at, value) = pair?;
            let key = at[skip..].to_vec();
            let digest = match record::open::<crate::Row>(&at, &value) {
                Ok(row) => Digest::of_row(&key, &row.content),
                Err(error) if error.is_corruption() => Digest::default(),
                Err(error) => return Err(error),
            };
            rows.insert(key, digest);
        }
        Ok(TableRows {
            table: table.into(),
            rows,
        })
    }

    /// Replaces whole tables, and the revision, by those of another replica at
    /// the same place of the log. What is there need not be sound. History
    /// begins anew under the name `epoch`: watchers read again.
    ///
    /// Tables that are not given stay as they are.
    pub fn rewrite(&self, contents: &Contents, epoch: &str) -> Result<(), Error> {
        let mut state = self.state_mut();
        if contents.index != state.meta.applied.index {
            return Err(Error::Io(format!(
                "the rows are of entry {} and the replica is at {}",
                contents.index, state.meta.applied.index
            )));
        }
        let mut meta = state.meta.clone();
        let mut batch = Batch::default();
        for TableContents { table, rows } in &contents.tables {
            let (from, to) = row_range(table, &[]);
            for pair in self.backend.scan(&from, &to) {
                batch.remove(pair?.0);
            }
            let mut record = TableRecord::default();
            let mut digest = Digest::default();
            for entry in rows {
                let at = row_key(table, &entry.key);
                digest.add(entry.digest());
                record.rows += 1;
                record.bytes += (entry.key.len() + entry.row.content.len()) as u64;
                record.revisions = record.revisions.wrapping_add(entry.row.revision);
                batch.insert(at.clone(), record::seal(&at, &entry.row));
            }
            record.digest = digest.to_bytes().to_vec();
            meta.tables.insert(table.clone(), record);
        }
        meta.revision = contents.revision;
        self.replace(&mut state, meta, batch, epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Backend, Command, HistoryLimits, MemoryBackend, Operation, Position};
    use crate::{Transaction, key};

    fn store() -> Store {
        let backend: Box<dyn Backend> = Box::<MemoryBackend>::default();
        Store::open(backend, HistoryLimits::default(), "first").unwrap()
    }

    fn row(table: &str, name: &str, content: &str) -> Operation {
        Operation {
            action: Action::Put.into(),
            table: table.into(),
            key: key::encode(&[key::Part::Text(name.into())]),
            row: content.into(),
            ..Operation::default()
        }
    }

    fn apply(store: &Store, index: u64, operation: Operation) {
        let position = Position {
            index,
            ..Position::default()
        };
        let transactions = vec![Transaction {
            operations: vec![operation],
        }];
        let command = Command { transactions };
        store.apply(position, Some(&command)).unwrap().0[0]
            .as_ref()
            .unwrap();
    }

    /// Two replicas at the same place, one of which is not what it should be.
    fn replicas() -> (Store, Store) {
        let (sound, other) = (store(), store());
        for (index, operation) in [
            row("a", "same", "1"),
            row("a", "differs", "2"),
            row("a", "lost", "3"),
            row("b", "same", "4"),
        ]
        .into_iter()
        .enumerate()
        {
            apply(&sound, index as u64 + 1, operation.clone());
            apply(&other, index as u64 + 1, operation);
        }
        apply(&other, 4, row("a", "differs", "not 2"));
        apply(&other, 4, row("a", "extra", "5"));
        let mut gone = row("a", "lost", "");
        gone.action = Action::Delete.into();
        apply(&other, 4, gone);
        (sound, other)
    }

    #[test]
    fn rows_are_compared_by_key_and_content() {
        let (sound, other) = replicas();
        let compare = |table: &str| {
            let ours = other.row_digests(table).unwrap();
            difference(&ours.rows, &sound.row_digests(table).unwrap().rows)
        };
        let found = Difference {
            differing: 1,
            missing: 1,
            extra: 1,
        };
        assert_eq!(compare("a"), found);
        assert_eq!(compare("b"), Difference::default());
    }

    #[test]
    fn a_table_is_replaced_whole_and_the_others_stay() {
        let (sound, other) = replicas();
        assert_ne!(sound.digests(), other.digests());
        let contents = sound.contents(&["a".into()]).unwrap();
        other.rewrite(&contents, "second").unwrap();
        assert_eq!(sound.digests(), other.digests());
        assert_eq!(other.check().unwrap().problems, [""; 0]);
        assert_eq!(other.epoch(), "second");
        // Who watched before must read again.
        assert_eq!(other.history("first", 4, 10).unwrap(), None);
        apply(&other, 5, row("b", "later", "6"));
        assert_eq!(other.history("second", 4, 10).unwrap().unwrap().len(), 1);
        assert_eq!(other.check().unwrap().problems, [""; 0]);
    }

    #[test]
    fn rows_of_another_place_of_the_log_are_not_taken() {
        let (sound, other) = replicas();
        apply(&sound, 5, row("b", "later", "6"));
        let before = other.digests();
        let contents = sound.contents(&[]).unwrap();
        assert!(other.rewrite(&contents, "second").is_err());
        assert_eq!(other.digests(), before);
    }

    #[test]
    fn damaged_rows_differ_and_are_replaced() {
        let (sound, other) = replicas();
        let at = row_key("b", &key::encode(&[key::Part::Text("same".into())]));
        let mut batch = Batch::default();
        batch.insert(at, b"nonsense".to_vec());
        other.backend.commit(batch).unwrap();
        let ours = other.row_digests("b").unwrap();
        let found = difference(&ours.rows, &sound.row_digests("b").unwrap().rows);
        assert_eq!((found.differing, found.missing, found.extra), (1, 0, 0));
        other
            .rewrite(&sound.contents(&[]).unwrap(), "second")
            .unwrap();
        assert_eq!(other.check().unwrap().problems, [""; 0]);
        assert_eq!(sound.digests(), other.digests());
    }
}
