//! Cases as text. `tests/cases/README.md` tells the words.

use std::fmt::Write as _;

use bytes::Bytes;
use router::{Conflict, Event, RosterRow, Subscription};
use xcp::ToRouter;

use crate::world::{Database, Got, World};

/// Runs every case of a file. A case begins with `case NAME`.
pub fn run(file: &str, text: &str) {
    let mut world = World::new();
    let mut case = String::new();
    let mut number = 0;
    for (index, line) in join(text) {
        if let Some(name) = line.strip_prefix("case ") {
            check_empty(&world, file, &case);
            (world, case) = (World::new(), name.into());
            number += 1;
            continue;
        }
        if let Err(error) = step(&mut world, line.trim()) {
            panic!("{file}:{index} (case {case:?}): {line}\n{error}");
        }
    }
    check_empty(&world, file, &case);
    assert!(number > 0, "{file} has no case");
}

/// Joins lines that go on: indented ones.
fn join(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some((_, last)) if line.starts_with(' ') => last.push_str(line.trim()),
            _ => lines.push((index + 1, line.into())),
        }
    }
    lines
}

/// Nothing may be left that a case did not expect.
fn check_empty(world: &World, file: &str, case: &str) {
    for (name, client) in &world.clients {
        assert!(
            client.got.is_empty(),
            "{file} (case {case:?}): {name} also got {:#?}",
            client.got
        );
    }
}

fn step(world: &mut World, line: &str) -> Result<(), String> {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    if let Some(name) = first.strip_suffix('>') {
        let xml = rest
            .replace("$ID", &world.clients[name].id)
            .replace("$VER", &world.clients[name].version)
            .replace("$LARGE", &"x".repeat(500 << 10));
        world.send(name, &xml);
        return Ok(());
    }
    if let Some(name) = first.strip_suffix('<') {
        return expect(world, name, rest);
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    match (first, words.as_slice()) {
        ("users", users) => {
            for user in users {
                world.users.entry((*user).into()).or_default();
            }
        }
        ("friends", [a, b]) => {
            world.row(a, b, Subscription::Both);
            world.row(b, a, Subscription::Both);
        }
        ("row", [a, b, subscription]) => {
            let subscription = match *subscription {
                "none" => Subscription::None,
                "to" => Subscription::To,
                "from" => Subscription::From,
                _ => Subscription::Both,
            };
            world.row(a, b, subscription);
        }
        ("elsewhere" | "echo", [a, b, state]) => {
            let contact: Box<str> = format!("{b}@ex").into();
            let row = (*state != "absent").then(|| RosterRow {
                contact: contact.clone(),
                subscription: match *state {
                    "to" => Subscription::To,
                    "from" => Subscription::From,
                    "both" => Subscription::Both,
                    _ => Subscription::None,
                },
                listed: true,
                ..RosterRow::default()
            });
            let rows = world.users.entry((*a).into()).or_default();
            if first == "elsewhere" {
                match &row {
                    Some(row) => rows.roster.insert(contact.clone(), row.clone()),
                    None => rows.roster.remove(&contact),
                };
            }
            world.event(Event::RosterChanged {
                user: (*a).into(),
                contact,
                row,
            });
        }
        ("roster", [user, contact, wanted @ ..]) => {
            let contact = format!("{contact}@ex");
            let row = world.users[*user].roster.get(&*contact);
            let mut text = String::new();
            if let Some(row) = row {
                let _ = write!(text, "{}", row.subscription.as_str());
                for (word, set) in [
                    ("ask", row.ask),
                    ("approved", row.approved),
                    ("pending", row.pending_in.is_some()),
                    ("unlisted", !row.listed),
                ] {
                    if set {
                        let _ = write!(text, " {word}");
                    }
                }
            } else {
                text.push_str("absent");
            }
            if text != wanted.join(" ") {
                return Err(format!("is {text}"));
            }
        }
        ("connect", [name]) => world.connect(name),
        ("authenticate", [name]) => world.authenticate(name),
        ("online", [name]) => quietly_online(world, name, 0),
        ("online", [name, priority]) => {
            quietly_online(world, name, priority.parse().map_err(|_| "no number")?);
        }
        ("managed", [name]) => {
            quietly_online(world, name, 0);
            world.send(name, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
            world.clear();
        }
        ("clear", []) => world.clear(),
        ("lost", [name]) => world.closed(name, false),
        ("left", [name]) => world.closed(name, true),
        ("link-down", []) => world.link_down(),
        ("crash", []) => world.crash(true),
        ("wait", [seconds]) => {
            let seconds: f64 = seconds.parse().map_err(|_| "no number")?;
            world.wait((seconds * 1000.0) as u64);
        }
        ("database", ["slow"]) => world.database = Database::Slow,
        ("database", ["full"]) => world.database = Database::Full,
        ("database", ["broken"]) => world.database = Database::Broken,
        ("database", ["up"]) => {
            world.database = Database::Up;
            world.settle();
        }
        ("congested", [name]) => {
            let connection = world.clients[*name].number;
            world.frame(ToRouter::Congested { connection });
        }
        ("relieved", [name]) => {
            let connection = world.clients[*name].number;
            world.frame(ToRouter::Relieved { connection });
        }
        ("written", [name]) => world.written(name),
        ("stored", [user, count]) => {
            let stored = world.users[*user].offline.len();
            if stored.to_string() != *count {
                return Err(format!("{stored} are stored"));
            }
        }
        ("remove-user", [user]) => {
            world.users.remove(*user);
            world.event(Event::UserChanged {
                user: (*user).into(),
                enabled: false,
                home: None,
            });
        }
        ("shutdown", []) => world.event(Event::Shutdown),
        ("serve-host", [host]) => {
            world.frame(ToRouter::Serve {
                host: (*host).into(),
            });
        }
        ("from-host", _) => world.frame(ToRouter::Stanza {
            element: Bytes::copy_from_slice(rest.as_bytes()),
        }),
        ("set", [name, value]) => {
            let number = || value.parse::<usize>().map_err(|_| "no number");
            let mut config = world.config.clone();
            match *name {
                "conflict" => config.conflict = Conflict::Generate,
                "sessions" => config.sessions_per_user = number()?,
                "roster" => config.roster_items = number()?,
                "roster-bytes" => config.roster_bytes = number()?,
                "offline" => config.offline_messages = number()?,
                "offline-per-sender" => config.offline_bytes_per_sender = number()?,
                "queue" => config.queue_stanzas = number()?,
                "carbons" => config.carbons = *value == "on",
                _ => return Err("no such setting".into()),
            }
            world.config = config.clone();
            world.event(Event::Configured(config));
        }
        _ => return Err("no such word".into()),
    }
    Ok(())
}

/// Brings a client online and forgets what everybody got by it.
fn quietly_online(world: &mut World, name: &str, priority: i8) {
    let before: Vec<_> = world
        .clients
        .iter()
        .map(|(name, client)| (name.clone(), client.got.clone()))
        .collect();
    world.online(name, priority);
    world.clear();
    for (other, got) in before {
        if other != name {
            world.clients.get_mut(&other).expect("known").got = got;
        }
    }
}

fn expect(world: &mut World, name: &str, pattern: &str) -> Result<(), String> {
    let got = world.take(name);
    match (pattern, &got) {
        ("nothing", None) => Ok(()),
        (_, None) => Err("got nothing".into()),
        (_, Some(Got::Closed(last))) => match pattern.strip_prefix("closed") {
            Some("") if last.is_empty() => Ok(()),
            Some(condition) if last.contains(&format!("<{} ", condition.trim())) => Ok(()),
            _ => Err(format!("was closed with {last}")),
        },
        (_, Some(Got::Element(xml))) => {
            if !pattern.starts_with('<') {
                return Err(format!("got {xml}"));
            }
            let (want, have) = (sorted(pattern), canonical(xml));
            if matches(want.as_bytes(), have.as_bytes()) {
                Ok(())
            } else {
                Err(format!("want {want}\n got {have}"))
            }
        }
    }
}

/// One writing for equal elements: one kind of quotes, attributes sorted.
fn canonical(xml: &str) -> String {
    let element = xmpp::Element::parse(xml.as_bytes())
        .unwrap_or_else(|error| panic!("{error}: {xml}"))
        .to_bytes();
    sorted(&String::from_utf8(element).expect("text"))
}

/// Sorts the attributes of every tag. A pattern may have parts of tags.
fn sorted(text: &str) -> String {
    let mut out = String::new();
    for (index, piece) in text.split('<').enumerate() {
        if index == 0 {
            out.push_str(piece);
            continue;
        }
        let Some((tag, after)) = piece.split_once('>') else {
            let _ = write!(out, "<{piece}");
            continue;
        };
        let (tag, slash) = tag.strip_suffix('/').map_or((tag, ""), |tag| (tag, "/"));
        let mut parts = tag.splitn(2, ' ');
        let name = parts.next().unwrap_or_default();
        let mut attributes: Vec<&str> = parts
            .next()
            .map(|rest| rest.split_inclusive("' ").map(str::trim).collect())
            .unwrap_or_default();
        attributes.sort_unstable();
        let _ = write!(out, "<{name}");
        for attribute in attributes {
            let _ = write!(out, " {attribute}");
        }
        let _ = write!(out, "{slash}>{after}");
    }
    out
}

/// `*` stands for anything.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.iter().position(|byte| *byte == b'*') {
        None => pattern == text,
        Some(at) => {
            if !text.starts_with(&pattern[..at]) {
                return false;
            }
            let rest = &pattern[at + 1..];
            (at..=text.len()).any(|from| matches(rest, &text[from..]))
        }
    }
}
