//! What fits a table, what does not, and what the errors say.

use database::tables::{self, EndUser, RosterItem};
use database::{Column, Kind, Migration, Schema, Table};
use proptest::prelude::*;
use serde_json::{Value, json};

static FIRST: Schema = Schema {
    table: "thing",
    version: 1,
    key: &["id"],
    columns: &[
        Column::text("id", 4),
        Column::new("size", Kind::Integer(0, 9)),
    ],
    migrations: &[],
};

static SECOND: Schema = Schema {
    table: "thing",
    version: 2,
    key: &["id"],
    columns: &[
        Column::text("id", 4),
        Column::new("size", Kind::Integer(0, 99)),
        Column::new("colour", Kind::Choice(&["red", "blue"])),
        Column::text("note", 8).optional(),
    ],
    migrations: &[Migration {
        to: 2,
        change: |row| {
            row.insert("colour".into(), "red".into());
        },
    }],
};

fn refusal(schema: &Schema, row: Value, version: u32) -> String {
    match schema.encode(row, version) {
        Ok(encoded) => panic!("accepted: {encoded:?}"),
        Err(invalid) => invalid.to_string(),
    }
}

#[test]
fn refusals_name_the_table_the_field_and_what_is_allowed() {
    let cases = [
        (
            json!({"id": "a", "size": 1, "colour": "red", "bogus": 1}),
            ["thing.bogus", "id, size, colour, note"],
        ),
        (
            json!({"id": "abcde", "size": 1, "colour": "red"}),
            ["thing.id", "at most 4"],
        ),
        (
            json!({"id": "a", "size": "1", "colour": "red"}),
            ["thing.size", "whole number from 0 to 99"],
        ),
        (
            json!({"id": "a", "size": 100, "colour": "red"}),
            ["thing.size", "from 0 to 99"],
        ),
        (
            json!({"id": "a", "size": 1.5, "colour": "red"}),
            ["thing.size", "from 0 to 99"],
        ),
        (
            json!({"id": "a", "size": 1, "colour": "green"}),
            ["thing.colour", "one of red, blue"],
        ),
        (
            json!({"id": "a", "size": 1}),
            ["thing.colour", "is missing"],
        ),
        (
            json!({"size": 1, "colour": "red"}),
            ["thing.id", "is missing"],
        ),
        (
            json!({"id": null, "size": 1, "colour": "red"}),
            ["thing.id", "is missing"],
        ),
        (
            json!({"id": "a", "size": 1, "colour": "red", "note": []}),
            ["thing.note", "text of at most 8 bytes, not a list"],
        ),
        (json!([1]), ["thing", "JSON object"]),
    ];
    for (row, words) in cases {
        let text = refusal(&SECOND, row.clone(), 2);
        for word in words {
            assert!(text.contains(word), "{row}: {text}");
        }
    }
}

#[test]
fn fields_inside_fields_are_named_by_their_path() {
    let scram = json!({"salt": "s", "iterations": 1, "stored_key": "k", "server_key": "k"});
    let row = json!({"user": "a", "name": "", "mail": "", "enabled": true, "scram_sha256": scram});
    let text = refusal(EndUser::SCHEMA, row, 1);
    assert!(
        text.contains("end_user.scram_sha256.iterations") && text.contains("4096"),
        "{text}"
    );
    let row = json!({"owner": "a", "contact": "b@d", "name": "", "subscription": "none", "ask": false,
        "approved": false, "listed": true, "groups": ["x", 7]});
    let text = refusal(RosterItem::SCHEMA, row, RosterItem::SCHEMA.version);
    assert!(text.contains("roster_item.groups[1]"), "{text}");
}

#[test]
fn rows_of_an_older_version_are_brought_forward() {
    let old = FIRST.encode(json!({"size": 3, "id": "a"}), 1).unwrap();
    let row = SECOND.decode(&old.content, 1).unwrap();
    assert_eq!(row, json!({"id": "a", "size": 3, "colour": "red"}));
    let written = SECOND.encode(json!({"id": "a", "size": 3}), 1).unwrap();
    assert_eq!(written.content, br#"{"id":"a","size":3,"colour":"red"}"#);
}

#[test]
fn a_row_of_a_newer_version_is_refused_by_column_and_versions() {
    let text = refusal(&FIRST, json!({"id": "a", "size": 3, "colour": "red"}), 2);
    for word in ["thing", "colour", "version 2", "version 1"] {
        assert!(text.contains(word), "{text}");
    }
    // Without a new column there is nothing to lose.
    assert!(FIRST.encode(json!({"id": "a", "size": 3}), 2).is_ok());
    // One that came by replication is read without what is not known here.
    let newer = SECOND
        .encode(json!({"id": "a", "size": 3, "colour": "blue"}), 2)
        .unwrap();
    assert_eq!(
        FIRST.decode(&newer.content, 2).unwrap(),
        json!({"id": "a", "size": 3})
    );
}

#[test]
fn every_table_is_well_formed() {
    let mut names: Vec<_> = tables::ALL.iter().map(|schema| schema.table).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), tables::ALL.len());
    for schema in tables::ALL {
        assert!(
            schema
                .table
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        );
        for name in schema.key {
            let column = schema.column(name).unwrap();
            let kind = matches!(
                column.kind,
                Kind::Text(_) | Kind::Integer(..) | Kind::Choice(_)
            );
            assert!(kind && !column.optional, "{}.{name}", schema.table);
        }
        let steps: Vec<_> = schema.migrations.iter().map(|step| step.to).collect();
        assert_eq!(
            steps,
            (2..=schema.version).collect::<Vec<_>>(),
            "{}",
            schema.table
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stored_row_reads_as_it_was_written(id in ".{0,4}", size in 0..100_i64, note in proptest::option::of(".{0,3}")) {
        prop_assume!(id.len() <= 4);
        let mut row = json!({"colour": "blue", "size": size, "id": id});
        if let Some(note) = &note {
            prop_assume!(note.len() <= 8);
            row["note"] = json!(note);
        }
        let stored = SECOND.encode(row.clone(), 2).unwrap();
        prop_assert_eq!(SECOND.decode(&stored.content, 2).unwrap(), row.clone());
        // Equal rows are equal bytes, whatever the order they came in.
        let again: Value = serde_json::from_slice(&stored.content).unwrap();
        prop_assert_eq!(SECOND.encode(again, 2).unwrap(), stored);
    }

    #[test]
    fn no_row_upsets_the_encoder(text in r#"[\[\]{}:,"a-d0-9.e-]{0,40}"#) {
        if let Ok(row) = serde_json::from_str::<Value>(&text)
            && let Ok(stored) = SECOND.encode(row, 2)
        {
            prop_assert!(SECOND.decode(&stored.content, 2).is_ok());
        }
    }
}
