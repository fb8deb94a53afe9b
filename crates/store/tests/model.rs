//! Transactions against a model, on every backend alike; keys and codecs.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::key::{self, Part};
use store::{
    Action, Backend, Batch, Command, Error, HistoryLimits, MemoryBackend, Operation, Outcome,
    Position, Rejection, SledBackend, Store, Transaction,
};

fn operation(action: Action, table: &str, key: &str, row: &str, revision: u64) -> Operation {
    Operation {
        action: action.into(),
        table: table.into(),
        key: key::encode(&[Part::Text(key.into())]),
        row: row.into(),
        version: 1,
        revision,
    }
}

fn operations() -> impl Strategy<Value = Operation> {
    let action = prop_oneof![
        4 => Just(Action::Put),
        3 => Just(Action::Insert),
        2 => Just(Action::Delete),
        2 => Just(Action::Require),
        2 => Just(Action::RequireRow),
        1 => Just(Action::Clear),
        1 => Just(Action::DeletePrefix),
    ];
    let table = prop_oneof![Just("t"), Just("t2")];
    (action, table, "[abc]{0,2}", "[xyz]{0,3}", 0..6_u64).prop_map(
        |(action, table, key, row, revision)| {
            let mut operation = operation(action, table, &key, &row, revision);
            if action == Action::DeletePrefix {
                // Without its end, a text is the beginning of others.
                operation.key.truncate(operation.key.len() - 2);
            }
            operation
        },
    )
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let transaction =
        prop::collection::vec(operations(), 0..5).prop_map(|operations| Transaction { operations });
    let command =
        prop::collection::vec(transaction, 0..4).prop_map(|transactions| Command { transactions });
    prop::collection::vec(command, 1..8)
}

/// The plainest possible store.
#[derive(Clone, Default)]
struct Model {
    rows: BTreeMap<(String, Vec<u8>), (u64, Vec<u8>)>,
    revision: u64,
}

impl Model {
    fn transact(&mut self, transaction: &Transaction) -> Outcome {
        let mut next = self.clone();
        next.revision += 1;
        for step in &transaction.operations {
            let name = (step.table.clone(), step.key.clone());
            match step.action() {
                Action::Put => {
                    next.rows.insert(name, (next.revision, step.row.clone()));
                }
                Action::Insert => {
                    if next.rows.contains_key(&name) {
                        return Err(Rejection::Exists {
                            table: name.0,
                            key: name.1,
                        });
                    }
                    next.rows.insert(name, (next.revision, step.row.clone()));
                }
                Action::Delete => {
                    next.rows.remove(&name);
                }
                Action::Require => {
                    let found = self.rows.get(&name).map_or(0, |row| row.0);
                    if found != step.revision {
                        let (table, key) = name;
                        return Err(Rejection::Changed {
                            table,
                            key,
                            required: step.revision,
                            found,
                        });
                    }
                }
                Action::RequireRow => {
                    if !self.rows.contains_key(&name) {
                        let (table, key) = name;
                        return Err(Rejection::Missing { table, key });
                    }
                }
                Action::Clear => next.rows.retain(|(table, _), _| *table != step.table),
                Action::DeletePrefix => next
                    .rows
                    .retain(|(table, key), _| *table != step.table || !key.starts_with(&step.key)),
                Action::Unspecified => {
                    return Err(Rejection::Unknown {
                        action: step.action,
                    });
                }
            }
        }
        *self = next;
        Ok(self.revision)
    }
}

fn open(backend: impl Backend) -> Store {
    Store::open(Box::new(backend), HistoryLimits::default(), "e").unwrap()
}

fn compare(store: &Store, commands: &[Command]) {
    let mut model = Model::default();
    for (index, command) in (1..).zip(commands) {
        let position = Position {
            index,
            ..Position::default()
        };
        let (outcomes, _) = store.apply(position, Some(command)).unwrap();
        let expected: Vec<_> = command
            .transactions
            .iter()
            .map(|transaction| model.transact(transaction))
            .collect();
        assert_eq!(outcomes, expected);
        for table in ["t", "t2"] {
            let rows = store.list(table, &[]).unwrap().0;
            let rows: Vec<_> = rows
                .into_iter()
                .map(|entry| (entry.key, (entry.row.revision, entry.row.content)))
                .collect();
            let expected = model.rows.iter().filter(|(name, _)| name.0 == table);
            let expected: Vec<_> = expected
                .map(|(name, row)| (name.1.clone(), row.clone()))
                .collect();
            assert_eq!(rows, expected);
        }
    }
    assert_eq!(store.revision(), model.revision);
    assert_eq!(store.applied().index, commands.len() as u64);
    assert_eq!(store.check().unwrap().problems, Vec::<String>::new());
    // A watcher that saw nothing rebuilds the rows from the history alone.
    let mut rows = BTreeMap::new();
    for change in store.history("e", 0, usize::MAX).unwrap().unwrap() {
        for event in change.events {
            match event.row {
                Some(row) => rows.insert((event.table, event.key), (row.revision, row.content)),
                None => rows.remove(&(event.table, event.key)),
            };
        }
    }
    assert_eq!(rows, model.rows);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transactions_do_what_the_model_does(commands in commands()) {
        let folder = tempfile::tempdir().unwrap();
        let memory = open(MemoryBackend::default());
        compare(&memory, &commands);
        let disk = open(SledBackend::open(folder.path(), 1 << 20).unwrap());
        compare(&disk, &commands);
        prop_assert_eq!(memory.digests(), disk.digests());
        // Everything is there again after it was closed.
        disk.flush().unwrap();
        let before = disk.digests();
        drop(disk);
        let again = open(SledBackend::open(folder.path(), 1 << 20).unwrap());
        prop_assert_eq!(again.digests(), before);
        prop_assert_eq!(again.check().unwrap().problems, Vec::<String>::new());
    }

    #[test]
    fn a_copy_by_dump_is_equal(commands in commands()) {
        let store = open(MemoryBackend::default());
        compare(&store, &commands);
        let backend = MemoryBackend::default();
        let mut batch = Batch::default();
        let position = store.dump::<Error>(|key, value| {
            batch.insert(key.to_vec(), value.to_vec());
            Ok(())
        }).unwrap();
        backend.commit(batch).unwrap();
        let copy = open(backend);
        prop_assert_eq!(copy.applied(), position);
        prop_assert_eq!(copy.digests(), store.digests());
        prop_assert_eq!(copy.check().unwrap().problems, Vec::<String>::new());
        prop_assert_eq!(copy.history("e", copy.revision(), 9).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn keys_are_in_the_order_of_their_columns(a in parts(), b in parts()) {
        let (one, two) = (key::encode(&a), key::encode(&b));
        prop_assert_eq!(one.cmp(&two), a.cmp(&b));
        prop_assert_eq!(key::decode(&one), Some(a.clone()));
        if b.starts_with(&a) {
            prop_assert!(two.starts_with(&one));
        } else {
            prop_assert!(!two.starts_with(&one));
        }
    }

    #[test]
    fn no_bytes_upset_the_key_decoder(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Some(parts) = key::decode(&bytes) {
            prop_assert_eq!(key::encode(&parts), bytes);
        }
    }

    #[test]
    fn the_successor_is_behind_all_that_begin_alike(prefix in prop::collection::vec(any::<u8>(), 0..4), rest in prop::collection::vec(any::<u8>(), 0..4)) {
        let mut longer = prefix.clone();
        longer.extend(rest);
        match key::successor(&prefix) {
            Some(end) => prop_assert!(longer < end && !end.starts_with(&prefix)),
            None => prop_assert!(prefix.iter().all(|byte| *byte == 0xFF)),
        }
    }

    #[test]
    fn a_flipped_bit_is_found_and_never_served(row in 0..6_usize, bit in 0..4096_usize) {
        let backend = Shared::default();
        let store = open(backend.clone());
        let operations = (0..6).map(|n| operation(Action::Put, "t", &format!("k{n}"), "content", 0));
        let command = Command { transactions: vec![Transaction { operations: operations.collect() }] };
        store.apply(Position { index: 1, ..Position::default() }, Some(&command)).unwrap();
        let name = key::encode(&[Part::Text(format!("k{row}"))]);
        let mut at = b"rt\0".to_vec();
        at.extend(&name);
        let mut value = backend.get(&at).unwrap().unwrap();
        let bit = bit % (value.len() * 8);
        value[bit / 8] ^= 1 << (bit % 8);
        let mut batch = Batch::default();
        batch.insert(at, value);
        backend.commit(batch).unwrap();
        prop_assert!(matches!(store.get("t", &name), Err(Error::Corrupt(_))));
        prop_assert!(matches!(store.list("t", &[]), Err(Error::Corrupt(_))));
        prop_assert!(store.dump::<Error>(|_, _| Ok(())).is_err(), "damage must not spread");
        prop_assert!(!store.check().unwrap().problems.is_empty());
        let over = Command { transactions: vec![Transaction { operations: vec![operation(Action::Delete, "t", &format!("k{row}"), "", 0)] }] };
        let position = Position { index: 2, ..Position::default() };
        let applied = store.apply(position, Some(&over));
        prop_assert!(applied.is_err());
    }
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let text = prop_oneof!["[a\\x00\\x01é]{0,3}", ".{0,3}"];
    let part = prop_oneof![
        text.prop_map(Part::Text),
        prop_oneof![any::<i64>(), -2..2_i64].prop_map(Part::Integer)
    ];
    prop::collection::vec(part, 0..3)
}

/// A backend that a test can reach behind the store's back.
#[derive(Clone, Default)]
struct Shared(std::sync::Arc<MemoryBackend>);

impl Backend for Shared {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> store::Pairs<'a> {
        self.0.scan(from, to)
    }
    fn commit(&self, batch: Batch) -> Result<(), Error> {
        self.0.commit(batch)
    }
    fn flush(&self) -> Result<(), Error> {
        self.0.flush()
    }
    fn size(&self) -> u64 {
        self.0.size()
    }
}

#[test]
fn a_row_that_vanished_is_found_by_its_table_s_digest() {
    let backend = Shared::default();
    let store = open(backend.clone());
    let command = Command {
        transactions: vec![Transaction {
            operations: vec![operation(Action::Put, "t", "k", "r", 0)],
        }],
    };
    store
        .apply(
            Position {
                index: 1,
                ..Position::default()
            },
            Some(&command),
        )
        .unwrap();
    let mut batch = Batch::default();
    let mut at = b"rt\0".to_vec();
    at.extend(key::encode(&[Part::Text("k".into())]));
    batch.remove(at);
    backend.commit(batch).unwrap();
    let problems = store.check().unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("table t"),
        "{problems:?}"
    );
}

#[test]
fn history_is_bounded_and_says_when_it_is_gone() {
    let limits = HistoryLimits {
        changes: 10,
        bytes: 1 << 20,
    };
    let store = Store::open(Box::new(MemoryBackend::default()), limits, "e").unwrap();
    for index in 1..=25 {
        let operations = vec![operation(Action::Put, "t", "k", &index.to_string(), 0)];
        let command = Command {
            transactions: vec![Transaction { operations }],
        };
        store
            .apply(
                Position {
                    index,
                    ..Position::default()
                },
                Some(&command),
            )
            .unwrap();
    }
    assert_eq!(store.history("e", 14, 100).unwrap(), None);
    let changes = store.history("e", 15, 100).unwrap().unwrap();
    assert_eq!(
        changes
            .iter()
            .map(|change| change.revision)
            .collect::<Vec<_>>(),
        (16..=25).collect::<Vec<_>>()
    );
    assert_eq!(store.history("other", 25, 100).unwrap(), None);
    assert_eq!(
        store.history("e", 26, 100).unwrap(),
        None,
        "a revision that never was"
    );
    store.begin_epoch("f").unwrap();
    assert_eq!(store.history("e", 25, 100).unwrap(), None);
    assert_eq!(store.history("f", 25, 100).unwrap(), Some(Vec::new()));
    assert_eq!(store.check().unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_change_too_large_for_the_history_makes_watchers_read_again() {
    let store = open(MemoryBackend::default());
    let large = "x".repeat(5 << 20);
    for (index, row) in [(1, "a"), (2, large.as_str()), (3, "b")] {
        let operations = vec![operation(Action::Put, "t", "k", row, 0)];
        let command = Command {
            transactions: vec![Transaction { operations }],
        };
        store
            .apply(
                Position {
                    index,
                    ..Position::default()
                },
                Some(&command),
            )
            .unwrap();
    }
    assert_eq!(store.history("e", 1, 9).unwrap(), None);
    assert_eq!(store.history("e", 2, 9).unwrap().unwrap().len(), 1);
    assert_eq!(store.check().unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_load_that_did_not_end_is_no_store() {
    let backend = MemoryBackend::default();
    let mut batch = Batch::default();
    batch.insert(b"rt\0k".to_vec(), b"anything".to_vec());
    backend.commit(batch).unwrap();
    let opened = Store::open(Box::new(backend), HistoryLimits::default(), "e");
    assert!(matches!(opened, Err(Error::Incomplete)));
}

#[test]
fn rows_that_are_older_than_the_position_are_found() {
    // An engine that was torn may come back with its newest record of the
    // position and older rows, all of them sound by themselves.
    let backend = Shared::default();
    let store = open(backend.clone());
    let write = |index: u64, row: &str| {
        let operations = vec![operation(Action::Put, "t", "k", row, 0)];
        let command = Command {
            transactions: vec![Transaction { operations }],
        };
        let position = Position {
            index,
            ..Position::default()
        };
        store.apply(position, Some(&command)).unwrap();
    };
    for same in ["new", "old"] {
        write(1, "old");
        let before: Vec<_> = backend.scan(b"n", b"z").map(Result::unwrap).collect();
        write(2, same);
        let mut torn = Batch::default();
        for (key, value) in before {
            torn.insert(key, value);
        }
        backend.commit(torn).unwrap();
        let problems = open(backend.clone()).check().unwrap().problems;
        assert!(!problems.is_empty(), "{same}");
    }
}
