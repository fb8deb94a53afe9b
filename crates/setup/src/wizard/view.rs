//! What the wizard shows. Only plain characters, bold and reverse: a serial
//! terminal of 80 by 24 without colours shows everything.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};

use crate::apply::Step;

use super::draft::Draft;
use super::pages::{Body, Field};
use super::{Finding, Mode, SUMMARY, WELCOME, Wizard};

/// Smallest screen that everything fits on.
pub(super) const SMALLEST: (u16, u16) = (80, 24);

/// Where the fields of a form begin.
const VALUES: u16 = 26;
/// How wide they are.
const WIDTH: u16 = 48;

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSE: Style = Style::new().add_modifier(Modifier::REVERSED);

/// A screen being drawn.
struct Screen<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    cursor: Option<Position>,
}

impl Screen<'_> {
    fn put(&mut self, x: u16, y: u16, text: &str, style: Style) {
        if y < self.area.height && x < self.area.width {
            let room = usize::from(self.area.width - x);
            self.buffer.set_stringn(x, y, text, room, style);
        }
    }

    fn bar(&mut self, y: u16, left: &str, right: &str) {
        let width = usize::from(self.area.width);
        let gap = width.saturating_sub(left.chars().count() + right.chars().count() + 2);
        let line = format!(" {left}{}{right} ", " ".repeat(gap));
        self.put(0, y, &line, REVERSE);
    }

    /// Text broken into lines; returns the line after it.
    fn text(&mut self, y: u16, text: &str, style: Style) -> u16 {
        let mut y = y;
        for line in wrap(text, usize::from(self.area.width.saturating_sub(4))) {
            self.put(2, y, &line, style);
            y += 1;
        }
        y
    }

    fn bottom(&self) -> u16 {
        self.area.height.saturating_sub(1)
    }
}

/// Breaks text at blanks. A word longer than a line is cut.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let word: String = word.chars().take(width).collect();
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        lines.push(line);
    }
    lines
}

impl Wizard {
    /// Draws the wizard.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let mut screen = Screen {
            area,
            buffer: frame.buffer_mut(),
            cursor: None,
        };
        if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
            let text = format!(
                "This screen is smaller than {} by {}.",
                SMALLEST.0, SMALLEST.1
            );
            screen.put(0, 0, &text, PLAIN);
        } else {
            self.draw_on(&mut screen);
        }
        if let Some(cursor) = screen.cursor {
            frame.set_cursor_position(cursor);
        }
    }

    fn draw_on(&self, screen: &mut Screen<'_>) {
        let asked = self.asked();
        let here = asked.iter().position(|at| *at == self.at).unwrap_or(0);
        let step = match (&self.mode, here) {
            (Mode::Apply(_) | Mode::Failed(_) | Mode::Done, _) | (_, 0) => String::new(),
            (_, here) => format!("step {here} of {}", asked.len() - 1),
        };
        screen.bar(0, "Signalbox set-up", &step);
        let help = match &self.mode {
            Mode::Ask => self.ask(screen),
            Mode::Wait(what) => {
                screen.text(3, what, BOLD);
                "Please wait"
            }
            Mode::Findings(findings) => findings_on(screen, findings),
            Mode::File(text) => file_on(screen, text),
            Mode::Apply(step) => steps_on(screen, *step),
            Mode::Failed(why) => {
                screen.text(3, "The node could not be set up.", BOLD);
                screen.text(5, why, PLAIN);
                let next = "Nothing is lost: correct the answers, or try again.";
                screen.text(screen.bottom() - 2, next, PLAIN);
                "Enter: back to the answers"
            }
            Mode::Done => {
                screen.text(3, "The node is set up.", BOLD);
                ""
            }
        };
        let lines = wrap(&self.message, usize::from(screen.area.width - 6));
        let shown = lines.len().min(3);
        let first = screen.bottom() - 1 - u16::try_from(shown).unwrap_or(0);
        for (y, line) in (first..).zip(lines.iter().take(shown)) {
            screen.put(2, y, if y == first { "*" } else { " " }, BOLD);
            screen.put(4, y, line, BOLD);
        }
        screen.bar(screen.bottom(), help, "");
    }

    fn ask(&self, screen: &mut Screen<'_>) -> &'static str {
        let page = &self.pages[self.at];
        screen.text(2, page.title, BOLD);
        let y = screen.text(3, &page.text, PLAIN) + 1;
        match &page.body {
            Body::Welcome => {
                self.welcome_on(screen);
                "Up, Down: choose   Enter: go on"
            }
            Body::Menu(_, entries) => {
                let labels: Vec<&str> = entries.iter().map(|(_, label)| label.as_str()).collect();
                menu_on(screen, y, &labels, self.focus);
                "Up, Down: choose   Enter: go on   Esc: back"
            }
            Body::Form(fields) => {
                self.form_on(screen, y, fields);
                "Enter: go on   Tab, Up, Down: move   Ctrl-U: empty   Esc: back"
            }
            Body::Search(_) => {
                self.search_on(screen, y);
                "Type to search   Up, Down: choose   Enter: go on   Esc: back"
            }
            Body::Checklist(_, entries) => {
                let chosen = self.draft.features();
                for (at, (id, name)) in entries.iter().enumerate() {
                    let mark = if chosen.contains(id) { "[x]" } else { "[ ]" };
                    let style = if at == self.focus { REVERSE } else { PLAIN };
                    let line = y + u16::try_from(at).unwrap_or(u16::MAX);
                    screen.put(4, line, &format!(" {mark} {name} "), style);
                }
                "Up, Down: move   Space: choose or not   Enter: go on   Esc: back"
            }
            Body::Summary => {
                let y = self.summary_on(screen, 3);
                menu_on(screen, y + 1, &SUMMARY, self.focus);
                "Up, Down: choose   Enter: do it   Esc: back"
            }
        }
    }

    fn welcome_on(&self, screen: &mut Screen<'_>) {
        let text = "This node is not set up. Until it is, nothing on it can be reached over the \
                    network. The questions take a few minutes; every answer can be changed \
                    until you confirm them all at the end.";
        let y = screen.text(4, text, PLAIN);
        menu_on(screen, y + 1, &WELCOME, self.focus);
        if let Some(who) = &self.elsewhere {
            let text = format!("Set-up is going on at {who}.");
            screen.text(y + 6, &text, BOLD);
        }
    }

    fn form_on(&self, screen: &mut Screen<'_>, y: u16, fields: &[Field]) {
        for (at, (line, field)) in (y..).zip(fields).enumerate() {
            let focused = at == self.focus;
            let label = if focused { BOLD } else { PLAIN };
            screen.put(2, line, &field.label, label);
            let text = if focused {
                self.input.text()
            } else {
                self.draft.get(&field.key).into()
            };
            let cursor = if focused { self.input.cursor() } else { 0 };
            // The part of a long line around the cursor.
            let room = usize::from(WIDTH - 1);
            let from = cursor.saturating_sub(room);
            let part: String = text
                .chars()
                .skip(from)
                .take(room)
                .map(|c| if field.secret { '*' } else { c })
                .collect();
            let blank = " ".repeat(usize::from(WIDTH).saturating_sub(part.chars().count()));
            let style = if focused && self.input.fresh() {
                REVERSE
            } else {
                PLAIN
            };
            screen.put(VALUES, line, "[", PLAIN);
            screen.put(VALUES + 1, line, &part, style);
            let after = VALUES + 1 + u16::try_from(part.chars().count()).unwrap_or(0);
            screen.put(after, line, &format!("{blank}]"), PLAIN);
            if focused {
                let x = VALUES + 1 + u16::try_from(cursor - from).unwrap_or(0);
                screen.cursor = Some(Position::new(x, line));
            }
        }
        if let Some(field) = fields.get(self.focus)
            && !field.hint.is_empty()
        {
            let line = y + u16::try_from(fields.len()).unwrap_or(0) + 1;
            screen.put(
                2,
                line,
                &format!("({}: {})", field.label, field.hint),
                PLAIN,
            );
        }
    }

    fn search_on(&self, screen: &mut Screen<'_>, y: u16) {
        let text = self.input.text();
        let style = if self.input.fresh() { REVERSE } else { PLAIN };
        screen.put(2, y, "Search:", BOLD);
        screen.put(10, y, &text, style);
        let x = 10 + u16::try_from(self.input.cursor()).unwrap_or(0);
        screen.cursor = Some(Position::new(x, y));
        let matches = self.matches();
        let rows = usize::from(screen.bottom().saturating_sub(y + 6)).max(1);
        let top = self.focus.saturating_sub(rows - 1);
        for (at, zone) in matches.iter().enumerate().skip(top).take(rows) {
            let style = if at == self.focus { REVERSE } else { PLAIN };
            let line = y + 2 + u16::try_from(at - top).unwrap_or(0);
            screen.put(4, line, &format!(" {zone} "), style);
        }
        let line = y + 2 + u16::try_from(rows.min(matches.len())).unwrap_or(0);
        let count = match matches.len() {
            0 => "none".into(),
            count => format!("{} of {count}", self.focus + 1),
        };
        screen.put(4, line, &format!(" ({count})"), PLAIN);
    }

    fn summary_on(&self, screen: &mut Screen<'_>, y: u16) -> u16 {
        let mut y = y;
        for (label, value) in summary(&self.draft) {
            screen.put(2, y, label, PLAIN);
            screen.put(22, y, &value, PLAIN);
            y += 1;
        }
        y
    }
}

/// The answers in a few lines.
fn summary(draft: &Draft) -> Vec<(&'static str, String)> {
    let get = |key: &str| draft.get(key).trim().to_owned();
    let answers = draft.answers();
    let or = |text: String, none: &str| if text.is_empty() { none.into() } else { text };
    let address = if draft.dhcp() {
        "from DHCP".into()
    } else {
        let gateway = or(get("network.gateway"), "none");
        let address = answers.network.address.clone().unwrap_or_default();
        format!(
            "{address}, gateway {gateway}, largest packet {}",
            answers.network.mtu
        )
    };
    let data = &answers.certificate;
    let subject = [
        &data.organization,
        &data.unit,
        &data.location,
        &data.state,
        &data.country,
    ];
    let subject: Vec<&str> = subject.iter().filter_map(|one| one.as_deref()).collect();
    let role = match &answers.publisher {
        Some(publisher) => format!("subscriber of {publisher}"),
        None => "publisher".into(),
    };
    let cluster = "that of the cluster";
    let own = |text: String| match answers.publisher {
        Some(_) => cluster.into(),
        None => text,
    };
    vec![
        ("Size", format!("{} users, {role}", answers.size)),
        ("Time zone", answers.time_zone.clone()),
        ("Host name", answers.full_name()),
        ("Address", address),
        ("Name servers", or(answers.network.dns.join(", "), "none")),
        ("Time servers", or(answers.ntp.join(", "), "none")),
        ("Administrator", get("administrator.user")),
        ("Security password", "set".into()),
        ("Certificates", or(subject.join(", "), "no organisation")),
        ("Mail server", own(or(get("smtp.server"), "none"))),
        ("Application user", own(answers.web_account().user.clone())),
        ("Messaging domain", answers.domain.clone()),
        ("Features", or(answers.features.join(", "), "none")),
    ]
}

fn menu_on(screen: &mut Screen<'_>, y: u16, labels: &[&str], focus: usize) {
    for (at, (line, label)) in (y..).zip(labels).enumerate() {
        let style = if at == focus { REVERSE } else { PLAIN };
        let mark = if at == focus { ">" } else { " " };
        screen.put(2, line, mark, PLAIN);
        screen.put(4, line, &format!(" {label} "), style);
    }
}

fn findings_on(screen: &mut Screen<'_>, findings: &[Finding]) -> &'static str {
    screen.text(2, "Not everything works with these answers", BOLD);
    let mut y = 4;
    for finding in findings {
        let mark = if finding.ok { "well" } else { "FAIL" };
        screen.put(2, y, mark, BOLD);
        for line in wrap(&finding.text, usize::from(screen.area.width - 10)) {
            screen.put(8, y, &line, PLAIN);
            y += 1;
        }
    }
    "Enter: go on all the same   Esc: change the answers"
}

fn file_on(screen: &mut Screen<'_>, text: &str) -> &'static str {
    let rows = usize::from(screen.bottom() - 2);
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    // Two columns when one is not enough.
    let half = screen.area.width / 2;
    for (at, line) in lines.iter().enumerate().take(rows * 2) {
        let (x, y) = if at < rows {
            (1, at)
        } else {
            (half, at - rows)
        };
        let room = if lines.len() > rows {
            half - 2
        } else {
            screen.area.width - 2
        };
        let cut: String = line.chars().take(usize::from(room)).collect();
        screen.put(x, 2 + u16::try_from(y).unwrap_or(0), &cut, PLAIN);
    }
    "Enter: back (passwords are not shown, but they are saved)"
}

fn steps_on(screen: &mut Screen<'_>, now: Option<Step>) -> &'static str {
    screen.text(2, "The node is being set up", BOLD);
    let current = now.and_then(|now| Step::ALL.iter().position(|step| *step == now));
    for (at, step) in Step::ALL.iter().enumerate() {
        let mark = match current {
            Some(current) if at < current => "[ done ]",
            Some(current) if at == current => "[ .... ]",
            _ => "[      ]",
        };
        let y = 4 + u16::try_from(at).unwrap_or(0);
        screen.put(2, y, mark, PLAIN);
        screen.put(11, y, step.title(), PLAIN);
    }
    "Please wait. If the power fails now, set-up begins again."
}
