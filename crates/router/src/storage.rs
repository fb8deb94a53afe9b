//! The core's requests, carried out by the database.

use std::time::Duration;

use database::tables::{self, BlockItem, EndUser, OfflineMessage, RosterItem, VCard};
use database::{Database, Error, Transaction};
use tokio::time::Instant;

use crate::event::{Event, StoreFailure, StoreRequest};
use crate::rows::{OfflineRow, RosterRow, Subscription, UserRows, Write};

/// How long a request is tried again while the database is away: longer than
/// its restart takes. Every request may be repeated without harm.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// Carries a request out and tells the core how it went.
pub(crate) async fn carry_out(database: Database, request: StoreRequest) -> Event {
    match request {
        StoreRequest::Load { user } => {
            let rows = patiently(|| load(&database, &user)).await;
            Event::Loaded { user, rows }
        }
        StoreRequest::Write { user, writes } => {
            let result = patiently(|| write(&database, &user, &writes)).await;
            Event::Written { user, result }
        }
        StoreRequest::Offline { user } => {
            let rows = patiently(|| offline(&database, &user)).await;
            Event::Offline { user, rows }
        }
        StoreRequest::Roster { user } => {
            let rows = patiently(|| roster(&database, &user)).await;
            Event::Roster { user, rows }
        }
        StoreRequest::VCard { user } => {
            let xml = patiently(|| vcard(&database, &user)).await;
            Event::VCard { user, xml }
        }
    }
}

/// Tries again while the database cannot be reached.
async fn patiently<T, F>(mut request: impl FnMut() -> F) -> Result<T, StoreFailure>
where
    F: Future<Output = Result<T, Error>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        match request().await {
            Err(Error::Unavailable(_)) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
            result => return result.map_err(|error| StoreFailure(error.to_string())),
        }
    }
}

/// The node that a user is at home at.
pub(crate) fn home_of(user: &EndUser) -> Option<Box<str>> {
    (!user.node.is_empty()).then(|| user.node.as_str().into())
}

async fn load(database: &Database, user: &str) -> Result<Option<UserRows>, Error> {
    let Some(person) = database.get::<EndUser>(&[user]).await? else {
        return Ok(None);
    };
    let home = home_of(&person);
    if !person.enabled {
        return Ok(Some(UserRows::default()));
    }
    let key = [user];
    let (roster, blocks, offline) = tokio::try_join!(
        database.list::<RosterItem>(&key),
        database.list::<BlockItem>(&key),
        database.list::<OfflineMessage>(&key),
    )?;
    Ok(Some(UserRows {
        enabled: true,
        home,
        roster: roster.into_iter().map(contact).collect(),
        blocks: blocks.into_iter().map(|item| item.jid.into()).collect(),
        offline: offline
            .into_iter()
            .map(|message| (message.sequence, message.stanza.len()))
            .collect(),
    }))
}

async fn offline(database: &Database, user: &str) -> Result<Vec<OfflineRow>, Error> {
    let mut rows: Vec<_> = database
        .list::<OfflineMessage>(&[user])
        .await?
        .into_iter()
        .map(|message| OfflineRow {
            sequence: message.sequence,
            stanza: message.stanza.into(),
            stamp: message.stamp.into(),
        })
        .collect();
    rows.sort_by_key(|row| row.sequence);
    Ok(rows)
}

async fn roster(database: &Database, user: &str) -> Result<Vec<RosterRow>, Error> {
    let rows = database.list::<RosterItem>(&[user]).await?;
    Ok(rows.into_iter().map(contact).collect())
}

async fn vcard(database: &Database, user: &str) -> Result<Option<String>, Error> {
    let card = database.get::<VCard>(&[user]).await?;
    Ok(card.map(|card| card.xml))
}

async fn write(database: &Database, user: &str, writes: &[Write]) -> Result<(), Error> {
    // What is under way when a user is deleted must not come after it: a later
    // user of the same name would inherit it.
    let mut transaction = Transaction::new().require::<EndUser>(&[user]);
    for write in writes {
        transaction = match write {
            Write::Roster(row) => transaction.put(&item(user, row))?,
            Write::RemoveRoster(contact) => transaction.delete::<RosterItem>(&[user, contact]),
            Write::Block(jid) => transaction.put(&BlockItem {
                owner: user.into(),
                jid: jid.to_string(),
            })?,
            Write::Unblock(jid) => transaction.delete::<BlockItem>(&[user, jid]),
            Write::Offline(row) => transaction.put(&OfflineMessage {
                owner: user.into(),
                sequence: row.sequence,
                stanza: row.stanza.to_string(),
                stamp: row.stamp.to_string(),
            })?,
            Write::RemoveOffline(sequence) => {
                transaction.delete::<OfflineMessage>(&[user, &sequence.to_string()])
            }
            Write::VCard(xml) => transaction.put(&VCard {
                owner: user.into(),
                xml: xml.to_string(),
            })?,
        };
    }
    database.transact(transaction).await.map(|_| ())
}

fn item(user: &str, row: &RosterRow) -> RosterItem {
    RosterItem {
        owner: user.into(),
        contact: row.contact.to_string(),
        name: row.name.to_string(),
        subscription: match row.subscription {
            Subscription::None => tables::Subscription::None,
            Subscription::To => tables::Subscription::To,
            Subscription::From => tables::Subscription::From,
            Subscription::Both => tables::Subscription::Both,
        },
        ask: row.ask,
        approved: row.approved,
        pending_in: row.pending_in.as_ref().map(ToString::to_string),
        listed: row.listed,
        groups: row.groups.iter().map(ToString::to_string).collect(),
    }
}

/// A row as the core keeps it.
pub(crate) fn contact(item: RosterItem) -> RosterRow {
    RosterRow {
        contact: item.contact.into(),
        name: item.name.into(),
        groups: item.groups.into_iter().map(Into::into).collect(),
        subscription: match item.subscription {
            tables::Subscription::None => Subscription::None,
            tables::Subscription::To => Subscription::To,
            tables::Subscription::From => Subscription::From,
            tables::Subscription::Both => Subscription::Both,
        },
        ask: item.ask,
        approved: item.approved,
        pending_in: item.pending_in.map(Into::into),
        listed: item.listed,
    }
}

#[cfg(test)]
mod tests {
    use database::testing::TestDatabase;

    use super::*;

    #[tokio::test]
    async fn a_write_under_way_does_not_bring_rows_of_a_deleted_user_back() {
        let database = TestDatabase::start().await.unwrap();
        let client = database.client();
        let alice = EndUser {
            user: "alice".into(),
            name: String::new(),
            mail: String::new(),
            enabled: true,
            node: String::new(),
            scram_sha1: None,
            scram_sha256: None,
        };
        let added = Transaction::new().put(&alice).unwrap();
        client.transact(added).await.unwrap();
        let write = async |jid: &str| {
            let writes = vec![Write::Block(jid.into())];
            let user = "alice".into();
            carry_out(client.clone(), StoreRequest::Write { user, writes }).await
        };
        let done = write("eve@ex").await;
        assert!(matches!(done, Event::Written { result: Ok(()), .. }));
        let gone = Transaction::new()
            .delete::<EndUser>(&["alice"])
            .delete_all::<BlockItem>(&["alice"]);
        client.transact(gone).await.unwrap();
        let late = write("mallory@ex").await;
        assert!(matches!(late, Event::Written { result: Err(_), .. }));
        assert_eq!(client.list::<BlockItem>(&["alice"]).await.unwrap(), []);
    }
}
