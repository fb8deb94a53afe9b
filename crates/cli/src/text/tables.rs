//! Lists: counters, alarms, users, logs.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use operations::Imported;
use operations::logs::Entry;
use operations::monitoring::{Counter, RaisedAlarm};
use operations::users::User;

pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 {
        format!("1 {one}\n")
    } else {
        format!("{number} {one}s\n")
    }
}

/// A table with aligned columns.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .chain(heads.get(column).map(|head| head.len()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut heads.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

fn moment(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(
        |_| "-".into(),
        |time| {
            time.to_zoned(TimeZone::system())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// `show perf query class`.
pub(crate) fn perf_query(classes: &[(String, Vec<Counter>)]) -> String {
    let mut text = "==>query class :\n\n".to_owned();
    for (class, counters) in classes {
        let _ = writeln!(text, " - Perf class ({class}) has instances and values:");
        let width = |of: fn(&Counter) -> &str| {
            counters
                .iter()
                .map(|counter| of(counter).chars().count())
                .max()
                .unwrap_or(0)
        };
        let names = width(|counter| &counter.counter);
        for counter in counters {
            let _ = writeln!(
                text,
                "    {}  -> {:names$}   = {}",
                instance(counter),
                counter.counter,
                counter.value
            );
        }
        text.push('\n');
    }
    text
}

/// A class with one instance has none to name; scripts expect a word there.
fn instance(counter: &Counter) -> &str {
    if counter.instance.is_empty() {
        "_Total"
    } else {
        &counter.instance
    }
}

fn list(head: &str, items: &mut dyn Iterator<Item = &str>) -> String {
    let mut items: Vec<_> = items.collect();
    items.sort_unstable();
    items.dedup();
    let mut text = format!("==>{head} :\n\n");
    for item in items {
        let _ = writeln!(text, " - {item}");
    }
    text
}

/// `show perf list classes`.
pub(crate) fn perf_classes(counters: &[Counter]) -> String {
    list(
        "list classes",
        &mut counters.iter().map(|counter| counter.class.as_str()),
    )
}

/// `show perf list counters`.
pub(crate) fn perf_counters(counters: &[Counter]) -> String {
    list(
        "list counters",
        &mut counters.iter().map(|counter| counter.counter.as_str()),
    )
}

/// `show perf list instances`.
pub(crate) fn perf_instances(counters: &[Counter]) -> String {
    list("list instances", &mut counters.iter().map(instance))
}

/// `alarms list`.
pub(crate) fn alarms(alarms: &[RaisedAlarm]) -> String {
    let rows: Vec<_> = alarms
        .iter()
        .map(|alarm| {
            vec![
                alarm.severity.to_uppercase(),
                moment(alarm.since),
                alarm.service.clone(),
                alarm.id.clone(),
                alarm.text.clone(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "No alarm is raised.\n".into();
    }
    table(&["SEVERITY", "SINCE", "SERVICE", "ALARM", "TEXT"], &rows) + &count(rows.len(), "alarm")
}

/// `users list`.
pub(crate) fn users(users: &[User]) -> String {
    let rows: Vec<_> = users
        .iter()
        .map(|user| {
            vec![
                user.user.clone(),
                enabled(user).into(),
                node(user).into(),
                user.name.clone(),
                user.mail.clone(),
            ]
        })
        .collect();
    table(&["USER", "ENABLED", "NODE", "NAME", "MAIL"], &rows) + &count(rows.len(), "user")
}

fn enabled(user: &User) -> &str {
    if user.enabled { "yes" } else { "no" }
}

fn node(user: &User) -> &str {
    if user.node.is_empty() {
        "not assigned"
    } else {
        &user.node
    }
}

/// `users import`.
pub(crate) fn imported(imported: &Imported) -> String {
    let all = imported.added + imported.replaced;
    let users = if all == 1 {
        "1 user was imported".to_owned()
    } else {
        format!("{all} users were imported")
    };
    match imported.replaced {
        0 => format!("{users}.\n"),
        replaced => format!("{users}, {replaced} of them had been there and changed.\n"),
    }
}

/// `users show`.
pub(crate) fn user(user: &User) -> String {
    format!(
        "User    : {}\nJID     : {}\nName    : {}\nMail    : {}\nEnabled : {}\nNode    : {}\n",
        user.user,
        user.jid,
        user.name,
        user.mail,
        enabled(user),
        node(user)
    )
}

/// `file list activelog`.
pub(crate) fn entries(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let _ = match (entry.folder, entry.size, entry.modified) {
            (true, ..) => writeln!(text, "<dir>   {}", entry.name),
            (false, Some(size), Some(modified)) => {
                writeln!(text, "{}  {size:>12}  {}", moment(modified), entry.name)
            }
            _ => writeln!(text, "{}", entry.name),
        };
    }
    let folders = entries.iter().filter(|entry| entry.folder).count();
    text + &format!(
        "dir count = {folders}, file count = {}\n",
        entries.len() - folders
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(instance: &str, name: &str, value: i64) -> Counter {
        Counter {
            class: "Cisco XCP CM".into(),
            instance: instance.into(),
            counter: name.into(),
            value,
        }
    }

    #[test]
    fn a_query_is_as_scripts_parse_it() {
        let one = vec![counter("ReplicateCount", "Replicate_State", 2)];
        assert_eq!(
            perf_query(&[("X".into(), one)]),
            "==>query class :\n\n - Perf class (X) has instances and values:\n    \
             ReplicateCount  -> Replicate_State   = 2\n\n"
        );
        let two = vec![
            counter("", "CmConnectedSockets", 12),
            counter("", "CmBytes", -3),
        ];
        assert_eq!(
            perf_query(&[("Cisco XCP CM".into(), two)]),
            "==>query class :\n\n - Perf class (Cisco XCP CM) has instances and values:\n    \
             _Total  -> CmConnectedSockets   = 12\n    \
             _Total  -> CmBytes              = -3\n\n"
        );
    }

    #[test]
    fn users_are_a_table_with_their_number() {
        let ada = User {
            user: "ada".into(),
            jid: "ada@example.org".into(),
            name: "Ada Lovelace".into(),
            mail: "ada@example.org".into(),
            enabled: true,
            node: String::new(),
        };
        let bob = User {
            user: "bob".into(),
            name: String::new(),
            mail: String::new(),
            ..ada.clone()
        };
        assert_eq!(
            users(&[ada.clone(), bob]),
            "USER  ENABLED  NODE          NAME          MAIL\n\
             ada   yes      not assigned  Ada Lovelace  ada@example.org\n\
             bob   yes      not assigned\n2 users\n"
        );
        assert_eq!(
            user(&ada),
            "User    : ada\nJID     : ada@example.org\nName    : Ada Lovelace\n\
             Mail    : ada@example.org\nEnabled : yes\nNode    : not assigned\n"
        );
        assert_eq!(users(&[]), "USER  ENABLED  NODE  NAME  MAIL\n0 users\n");
    }

    #[test]
    fn an_import_counts_its_users() {
        let said = |added, replaced| imported(&Imported { added, replaced });
        assert_eq!(said(1, 0), "1 user was imported.\n");
        assert_eq!(said(3, 0), "3 users were imported.\n");
        assert_eq!(
            said(1, 2),
            "3 users were imported, 2 of them had been there and changed.\n"
        );
    }

    #[test]
    fn logs_are_listed_with_their_number() {
        let file = Entry {
            name: "xmpp-router.log".into(),
            folder: false,
            size: None,
            modified: None,
        };
        let folder = Entry {
            name: "journal".into(),
            folder: true,
            ..file.clone()
        };
        assert_eq!(
            entries(&[folder, file]),
            "<dir>   journal\nxmpp-router.log\ndir count = 1, file count = 1\n"
        );
    }
}
