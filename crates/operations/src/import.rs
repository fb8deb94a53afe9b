//! Many users at once, from CSV.
//!
//! Everything is checked before anything is written: when any row is bad,
//! nobody is imported, and every bad row is named with its line.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::num::NonZero;

use futures::StreamExt;
use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Kind, Result};
use crate::ports::{DeriveKeys, UserChange, UserRecord};
use crate::users::NewUser;

/// The header row; name and mail may be left out.
const HEADER: [&str; 4] = ["user", "password", "name", "mail"];
/// Largest file.
pub(crate) const SIZE_LIMIT: usize = 64 << 20;
/// Bad rows that are told one by one.
const TOLD: usize = 20;
/// Rows of one database transaction.
const BATCH: usize = 500;

/// What an import came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Users that were not there before.
    pub added: usize,
    /// Users that were replaced.
    pub replaced: usize,
}

/// A row that cannot be imported.
#[derive(Debug, PartialEq, Eq)]
struct BadRow {
    line: u64,
    reason: String,
}

/// A checked row with its line.
#[derive(Debug)]
struct Row {
    line: u64,
    new: NewUser,
}

/// The checked rows, or the bad ones with the number of all.
fn read(text: &[u8]) -> std::result::Result<Vec<Row>, (Vec<BadRow>, usize)> {
    // Spreadsheets begin a file with a byte order mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text);
    let mut record = csv::ByteRecord::new();
    let at = |line, reason: &str| BadRow {
        line,
        reason: reason.into(),
    };
    let mut columns = 0;
    if let Ok(true) = reader.read_byte_record(&mut record) {
        let given: Vec<_> = record
            .iter()
            .map(|field| String::from_utf8_lossy(field).trim().to_lowercase())
            .collect();
        if (2..=HEADER.len()).contains(&given.len()) && given == HEADER[..given.len()] {
            columns = given.len();
        }
    }
    if columns == 0 {
        let header =
            "the header must be user,password or user,password,name or user,password,name,mail";
        return Err((vec![at(1, header)], 0));
    }
    let mut lines = Lines {
        text,
        offset: 0,
        line: 1,
    };
    let mut rows = Vec::new();
    let mut bad = Vec::new();
    let mut seen: HashMap<String, u64> = HashMap::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                let line = lines.at(error.position());
                bad.push(at(line, "this is not CSV"));
                break;
            }
        }
        let line = lines.at(record.position());
        match row(&record, columns) {
            Err(reason) => bad.push(BadRow { line, reason }),
            Ok(new) => match seen.get(&new.user) {
                Some(first) => bad.push(BadRow {
                    line,
                    reason: format!("{} is in line {first} already", new.user),
                }),
                None => {
                    seen.insert(new.user.clone(), line);
                    rows.push(Row { line, new });
                }
            },
        }
    }
    if bad.is_empty() {
        Ok(rows)
    } else {
        let all = rows.len() + bad.len();
        Err((bad, all))
    }
}

/// Line numbers of records. The reader's own are one too low in a file whose
/// lines end in CR LF, and do not count empty lines before a record.
struct Lines<'a> {
    text: &'a [u8],
    offset: usize,
    line: u64,
}

impl Lines<'_> {
    fn at(&mut self, position: Option<&csv::Position>) -> u64 {
        let start = position.map_or(0, |position| {
            usize::try_from(position.byte()).unwrap_or(usize::MAX)
        });
        while let Some(byte) = self.text.get(self.offset)
            && (self.offset < start || matches!(byte, b'\r' | b'\n'))
        {
            self.line += u64::from(*byte == b'\n');
            self.offset += 1;
        }
        self.line
    }
}

fn row(record: &csv::ByteRecord, columns: usize) -> std::result::Result<NewUser, String> {
    if record.len() != columns {
        return Err(format!(
            "{} fields where the header has {columns}; a comma inside a field needs double quotes",
            record.len()
        ));
    }
    let field = |index: usize| match record.get(index) {
        None => Ok(String::new()),
        Some(bytes) => std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| format!("the {} is not UTF-8", HEADER[index])),
    };
    let new = NewUser {
        user: field(0)?,
        password: field(1)?,
        name: field(2)?.trim().to_owned(),
        mail: field(3)?.trim().to_owned(),
    };
    new.checked()
}

fn refusal(bad: &[BadRow], rows: usize) -> Error {
    let mut message = "nobody was imported. ".to_owned();
    if rows > 0 {
        let _ = write!(message, "{} of {rows} rows cannot be imported. ", bad.len());
    }
    message += "Correct the file and import it again:";
    for row in bad.iter().take(TOLD) {
        let _ = write!(message, "\nline {}: {}", row.line, row.reason);
    }
    if bad.len() > TOLD {
        let _ = write!(message, "\n… and {} more", bad.len() - TOLD);
    }
    Error::invalid(message)
}

/// Derives keys on every processor; the costly part of an import.
async fn derive_all(
    rows: Vec<Row>,
    derive: DeriveKeys,
    iterations: u32,
) -> Result<Vec<UserRecord>> {
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    // Small pieces, so that no processor waits long for the last one.
    let size = rows.len().div_ceil(workers * 8).max(1);
    let mut pieces = Vec::new();
    let mut rows = rows.into_iter();
    loop {
        let piece: Vec<Row> = rows.by_ref().take(size).collect();
        if piece.is_empty() {
            break;
        }
        pieces.push(piece);
    }
    let work = pieces.into_iter().map(|piece| async move {
        tokio::task::spawn_blocking(move || {
            piece
                .into_iter()
                .map(|row| {
                    row.new.record(derive, iterations).map_err(|reason| BadRow {
                        line: row.line,
                        reason,
                    })
                })
                .collect::<Vec<_>>()
        })
        .await
    });
    let mut done = futures::stream::iter(work).buffered(workers);
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    while let Some(piece) = done.next().await {
        let piece =
            piece.map_err(|error| Error::failed(format!("the keys were not derived: {error}")))?;
        for row in piece {
            match row {
                Ok(record) => records.push(record),
                Err(reason) => bad.push(reason),
            }
        }
    }
    if bad.is_empty() {
        Ok(records)
    } else {
        Err(refusal(&bad, records.len() + bad.len()))
    }
}

impl Operations {
    /// Imports users from CSV with the header `user,password[,name,mail]`.
    /// Nobody is imported when any row is bad. With `replace`, users that
    /// there are already get the file's password, name and mail. Users whom
    /// somebody else adds, changes or deletes meanwhile are left as they are:
    /// the import ends there.
    pub async fn import_users(
        &self,
        caller: &Caller,
        text: &[u8],
        replace: bool,
    ) -> Result<Imported> {
        let work = async {
            if text.len() > SIZE_LIMIT {
                return Err(Error::invalid(format!(
                    "the file is larger than {} MB. Split it, each part with the header",
                    SIZE_LIMIT >> 20
                )));
            }
            let rows = read(text).map_err(|(bad, all)| refusal(&bad, all))?;
            let mut known: HashMap<_, _> = self
                .storage()
                .users()
                .await?
                .into_iter()
                .map(|user| (user.user.clone(), user))
                .collect();
            let clash: Vec<_> = rows
                .iter()
                .filter(|row| known.contains_key(&row.new.user))
                .collect();
            let imported = Imported {
                added: rows.len() - clash.len(),
                replaced: clash.len(),
            };
            if !replace && !clash.is_empty() {
                let bad: Vec<_> = clash
                    .iter()
                    .map(|row| BadRow {
                        line: row.line,
                        reason: format!(
                            "there is a user {} already; --replace changes such users",
                            row.new.user
                        ),
                    })
                    .collect();
                return Err(refusal(&bad, rows.len()));
            }
            let records = derive_all(rows, self.derive(), self.iterations().await?).await?;
            let changes = records
                .into_iter()
                .map(|mut new| match known.remove(&new.user) {
                    None => UserChange::Insert(new),
                    Some(old) => {
                        new.enabled = old.enabled;
                        UserChange::Replace {
                            old: old.into(),
                            new,
                        }
                    }
                });
            self.commit(changes.collect()).await?;
            Ok(imported)
        };
        caller.does(&actions::USERS_IMPORT, "", work).await
    }

    async fn commit(&self, changes: Vec<UserChange>) -> Result<()> {
        let all = changes.len();
        let mut written = 0;
        let mut changes = changes.into_iter();
        loop {
            let batch: Vec<_> = changes.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let size = batch.len();
            if let Err(error) = self.storage().commit_users(batch).await {
                if written == 0 && error.kind == Kind::Refused {
                    return Err(Error::refused(format!("nobody was imported: {error}")));
                }
                return Err(Error::new(
                    error.kind,
                    format!(
                        "{written} of {all} users were imported, then: {error}. Import the same \
                         file with --replace to finish"
                    ),
                ));
            }
            written += size;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fakes::{Fakes, administrator};

    use super::*;

    fn bad(text: &str) -> Vec<(u64, String)> {
        read(text.as_bytes())
            .unwrap_err()
            .0
            .into_iter()
            .map(|row| (row.line, row.reason))
            .collect()
    }

    #[test]
    fn name_and_mail_may_be_left_out() {
        let rows = read(b"user,password\nalice,secret\r\nBob,\"a,b\"\n").unwrap();
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.line, row.new.user.as_str(), row.new.password.as_str()))
            .collect();
        assert_eq!(told, [(2, "alice", "secret"), (3, "bob", "a,b")]);
        let rows = read("\u{feff}user,password,name,mail\na,b,Ada L,ada@example.org\n".as_bytes())
            .unwrap();
        assert_eq!(rows[0].new.name, "Ada L");
        assert_eq!(rows[0].new.mail, "ada@example.org");
    }

    #[test]
    fn a_wrong_header_is_told_and_no_content_is_repeated() {
        for text in ["", "alice,hunter2\n", "password,user\n", "root:x:0:0\n"] {
            let bad = bad(text);
            assert_eq!(bad[0].0, 1);
            assert!(bad[0].1.starts_with("the header must be"), "{}", bad[0].1);
            assert!(!bad[0].1.contains("hunter2"));
        }
    }

    #[test]
    fn every_bad_row_is_named_with_its_line() {
        let bad = bad("user,password\r\nalice,x\r\nb b,x\n\"multi\nline\",x\nalice,y\nc\n\n\nd,\n");
        let lines: Vec<_> = bad.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 6, 7, 10], "{bad:?}");
        assert_eq!(bad[2].1, "alice is in line 2 already");
        assert!(bad[3].1.contains("1 fields where the header has 2"));
    }

    #[test]
    fn a_user_who_comes_again_is_told_the_line_that_counts() {
        let bad = bad("user,password\ndave\ndave,x\ndave,y\ndave,z\n");
        let told: Vec<_> = bad[1..].iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(told, ["dave is in line 3 already"; 2]);
        let error = refusal(&[], 4).message;
        assert!(error.ends_with("cannot be imported. Correct the file and import it again:"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        let rows = read(b"user,password\nalice,\xff\n").unwrap_err();
        assert_eq!(rows.0[0].reason, "the password is not UTF-8");
    }

    #[tokio::test]
    async fn an_import_leaves_alone_what_somebody_else_did_meanwhile() {
        let fakes = Fakes::default();
        let folder = tempfile::tempdir().unwrap();
        let operations = fakes.operations(folder.path());
        let admin = administrator();
        let import = |text: &'static [u8], replace| operations.import_users(&admin, text, replace);
        import(b"user,password\nold,first\n", false).await.unwrap();
        let old = fakes.world().users["old"].clone();

        // Added by somebody else after the check.
        let bob = UserRecord {
            user: "bob".into(),
            name: "theirs".into(),
            ..old.clone()
        };
        for replace in [false, true] {
            fakes.world().users.remove("bob");
            fakes.world().meanwhile = vec![UserChange::Insert(bob.clone())];
            let error = import(b"user,password\nann,p\nbob,p\n", replace)
                .await
                .unwrap_err();
            assert_eq!(error.kind, Kind::Refused);
            assert!(
                error.message.starts_with("nobody was imported: ")
                    && error.message.contains("run it again"),
                "{error}"
            );
            assert_eq!(fakes.world().users["bob"], bob);
            assert!(!fakes.world().users.contains_key("ann"));
        }

        // Deleted by somebody else after the check.
        fakes.world().meanwhile = vec![UserChange::Delete("old".into())];
        import(b"user,password\nold,second\n", true)
            .await
            .unwrap_err();
        assert!(!fakes.world().users.contains_key("old"));
    }

    #[tokio::test]
    async fn an_import_with_replace_does_not_let_a_disabled_user_in() {
        let fakes = Fakes::default();
        let folder = tempfile::tempdir().unwrap();
        let operations = fakes.operations(folder.path());
        let admin = administrator();
        let import = |text: &'static [u8]| operations.import_users(&admin, text, true);
        import(b"user,password\nalice,first\n").await.unwrap();
        let disable = |user: &mut UserRecord| user.enabled = false;
        fakes.world().users.values_mut().for_each(disable);
        import(b"user,password\nalice,another\n").await.unwrap();
        let alice = fakes.world().users["alice"].clone();
        assert!(!alice.enabled);
        assert_eq!(alice.scram_sha1.unwrap().stored_key, "7");
    }

    #[test]
    fn a_long_list_of_bad_rows_is_cut() {
        let rows: Vec<_> = (0..25)
            .map(|line| BadRow {
                line,
                reason: "bad".into(),
            })
            .collect();
        let message = refusal(&rows, 100).message;
        assert!(message.starts_with("nobody was imported. 25 of 100 rows"));
        assert!(message.ends_with("… and 5 more"));
    }
}
