//! The status screen: what a node that is set up shows at its console.

use ratatui::Frame;
use ratatui::style::{Modifier, Style};
use service::{Node, Role, Severity};
use supervisor::{State, View};

use crate::wizard::wrap;

/// What is known of the node at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// What the node knows about itself.
    pub(crate) node: Option<Node>,
    /// Addresses of its interface.
    pub(crate) addresses: Vec<String>,
    /// Its services, in start order; or why they are not known.
    pub(crate) services: Result<Vec<View>, String>,
    /// Alarms: service, severity, text.
    pub(crate) alarms: Vec<(String, Severity, String)>,
    /// The time of day.
    pub(crate) time: String,
}

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSE: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws the status.
pub(crate) fn draw(snapshot: &Snapshot, frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (area.width, area.height);
    if height < 6 {
        return;
    }
    let last = height - 1;
    let lines = lines(snapshot, usize::from(width.saturating_sub(4)));
    let room = usize::from(height - 3);
    let buffer = frame.buffer_mut();
    let mut put = |x: u16, y: u16, text: &str, style: Style| {
        buffer.set_stringn(x, y, text, usize::from(width.saturating_sub(x)), style);
    };
    let name = snapshot.node.as_ref().map_or("", |node| node.name.as_str());
    put(
        0,
        0,
        &bar(&format!("Signalbox {name}"), &snapshot.time, width),
        REVERSE,
    );
    let shown = if lines.len() > room {
        room - 1
    } else {
        lines.len()
    };
    for (y, (style, line)) in (2..last).zip(lines.iter().take(shown)) {
        put(2, y, line, *style);
    }
    if shown < lines.len() {
        let more = format!("and {} more lines", lines.len() - shown);
        put(2, last - 1, &more, PLAIN);
    }
    put(
        0,
        last,
        &bar("Press Enter for the command line", "", width),
        REVERSE,
    );
}

fn bar(left: &str, right: &str, width: u16) -> String {
    let taken = left.chars().count() + right.chars().count() + 2;
    let gap = usize::from(width).saturating_sub(taken);
    format!(" {left}{}{right} ", " ".repeat(gap))
}

type Line = (Style, String);

fn lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(node) = &snapshot.node {
        let role = match node.role {
            Role::Publisher => "first node (publisher)",
            Role::Subscriber => "subscriber",
        };
        lines.push((PLAIN, format!("Role      {role}, {} users", node.size)));
        lines.push((PLAIN, format!("Domain    {}", node.domain)));
        let addresses = if snapshot.addresses.is_empty() {
            format!("{} (not on the interface now)", node.address)
        } else {
            snapshot.addresses.join(", ")
        };
        lines.push((PLAIN, format!("Address   {addresses}")));
        let web = format!("Web       https://{}:8443/", node.address);
        lines.push((PLAIN, web));
    }
    lines.push((PLAIN, String::new()));
    match &snapshot.services {
        Ok(services) => on_services(services, width, &mut lines),
        Err(why) => lines.push((BOLD, format!("Services  not known: {why}"))),
    }
    lines.push((PLAIN, String::new()));
    if snapshot.alarms.is_empty() {
        lines.push((PLAIN, "Alarms    none".into()));
    } else {
        lines.push((BOLD, format!("Alarms    {}", snapshot.alarms.len())));
        for (service, severity, text) in &snapshot.alarms {
            let text = format!("{service}: {text}");
            entry(&severity.to_string(), &text, width, &mut lines);
        }
    }
    lines
}

/// A paragraph under a heading, with a word before it.
fn entry(word: &str, text: &str, width: usize, lines: &mut Vec<Line>) {
    let mut word = word;
    for line in wrap(text, width.saturating_sub(20)) {
        lines.push((PLAIN, format!("          {word:<10}{line}")));
        word = "";
    }
}

/// What a service counts as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Up,
    Waiting,
    Failed,
    Stopped,
    Off,
}

fn count(service: &View) -> Count {
    match service.state {
        State::Started => Count::Up,
        State::Starting | State::Stopping => Count::Waiting,
        State::NotRunning if service.activated => Count::Failed,
        _ if !service.activated => Count::Off,
        _ => Count::Stopped,
    }
}

/// A line of numbers, then the services that are not up, with the reason,
/// then those that are.
fn on_services(services: &[View], width: usize, lines: &mut Vec<Line>) {
    let of = |wanted: Count| services.iter().filter(move |one| count(one) == wanted);
    let numbers = [
        (Count::Up, "up"),
        (Count::Waiting, "waiting"),
        (Count::Failed, "failed"),
        (Count::Stopped, "stopped"),
    ];
    let numbers: Vec<String> = numbers
        .iter()
        .filter(|(kind, _)| *kind == Count::Up || of(*kind).next().is_some())
        .map(|(kind, word)| format!("{} {word}", of(*kind).count()))
        .collect();
    lines.push((BOLD, format!("Services  {}", numbers.join(", "))));
    for (kind, word) in [
        (Count::Failed, "failed"),
        (Count::Waiting, "waiting"),
        (Count::Stopped, "stopped"),
    ] {
        for (names, reason) in by_reason(of(kind)) {
            let colon = if reason.is_empty() { "" } else { ": " };
            let text = format!("{}{colon}{reason}", names.join(", "));
            entry(word, &text, width, lines);
        }
    }
    let up: Vec<&str> = of(Count::Up).map(|one| one.name.as_str()).collect();
    if !up.is_empty() {
        entry("up", &up.join(", "), width, lines);
    }
}

/// Services in groups that have the same reason.
fn by_reason<'a>(services: impl Iterator<Item = &'a View>) -> Vec<(Vec<&'a str>, &'a str)> {
    let mut groups: Vec<(Vec<&str>, &str)> = Vec::new();
    for service in services {
        match groups
            .iter_mut()
            .find(|(_, reason)| *reason == service.reason)
        {
            Some((names, _)) => names.push(&service.name),
            None => groups.push((vec![&service.name], &service.reason)),
        }
    }
    groups
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
