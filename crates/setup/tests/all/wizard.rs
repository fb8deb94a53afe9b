//! The wizard, driven by keys and looked at on a screen of 80 by 24.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use setup::wizard::{Action, Event, Finding, Key, Trial, Wizard};
use setup::{Answers, Step, check};

use crate::common::{EXAMPLE, machine};

struct Console {
    wizard: Wizard,
}

impl Console {
    /// A wizard whose set-up this console has taken.
    fn begun() -> Self {
        let mut console = Self {
            wizard: Wizard::new(machine()),
        };
        assert_eq!(console.key(Key::Enter), Some(Action::Take));
        console.tell(Event::Taken(Ok(())));
        console
    }

    fn key(&mut self, key: Key) -> Option<Action> {
        self.wizard.handle(Event::Key(key))
    }

    fn tell(&mut self, event: Event) {
        assert_eq!(self.wizard.handle(event), None);
    }

    fn type_in(&mut self, text: &str) {
        for c in text.chars() {
            assert_eq!(self.key(Key::Char(c)), None);
        }
    }

    /// Types each text and Enter; what the last Enter asks for.
    fn fill(&mut self, texts: &[&str]) -> Option<Action> {
        let mut action = None;
        for text in texts {
            self.type_in(text);
            action = self.key(Key::Enter);
        }
        action
    }

    fn well(&mut self) {
        self.tell(Event::Tried(vec![Finding {
            ok: true,
            text: "It works.".into(),
        }]));
    }

    fn screen(&self) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| self.wizard.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines: Vec<String> = (0..24)
            .map(|y| {
                let line: String = (0..80).map(|x| buffer[(x, y)].symbol()).collect();
                line.trim_end().to_owned()
            })
            .collect();
        lines.join("\n")
    }

    fn shows(&self, text: &str) {
        let screen = self.screen();
        assert!(screen.contains(text), "{text:?} is not on\n{screen}");
    }

    fn reach_address(&mut self) {
        self.key(Key::Enter); // size
        self.key(Key::Enter); // time zone
        self.key(Key::Enter); // network card
        self.shows("How does this node get its address?");
    }

    /// From the address question to the administrator, all well.
    fn network(&mut self) {
        self.key(Key::Enter);
        self.fill(&["node1", "192.0.2.11", "24", "192.0.2.1"]);
        let action = self.fill(&["example.org", "192.0.2.2", "", ""]);
        assert!(
            matches!(action, Some(Action::Try(Trial::Network(..)))),
            "{action:?}"
        );
        self.well();
        self.shows("Administrator id");
    }

    /// From the administrator to the summary, all well.
    fn rest(&mut self) {
        self.fill(&["", "change-me-please", "change-me-please"]);
        self.fill(&["Example", "", "Berlin", "", "DE"]);
        self.key(Key::Enter); // first node
        let action = self.fill(&["ntp1.example.org", "", "ntp2.example.org", "", ""]);
        let servers = vec!["ntp1.example.org".into(), "ntp2.example.org".into()];
        assert_eq!(action, Some(Action::Try(Trial::Time(servers))));
        self.well();
        self.fill(&["change-me-too", "change-me-too"]);
        self.fill(&[""]); // mail
        self.fill(&["", "", ""]); // application user
        self.fill(&["example.org"]);
        self.key(Key::Enter); // features
        self.shows("Set the node up now");
    }
}

#[test]
fn plain_keys_lead_to_valid_answers() {
    let mut console = Console::begun();
    console.reach_address();
    console.network();
    console.rest();
    let Some(Action::Apply(answers)) = console.key(Key::Enter) else {
        panic!("nothing is applied:\n{}", console.screen());
    };
    assert_eq!(check(&answers, &machine()), []);
    assert_eq!(answers.network.address.as_deref(), Some("192.0.2.11/24"));
    assert_eq!(answers.network.gateway.as_deref(), Some("192.0.2.1"));
    assert_eq!(answers.administrator.password.0, "change-me-please");
    assert_eq!(answers.administrator.user, "admin");
    assert_eq!(answers.application_user, None);
    assert_eq!(answers.ntp.len(), 2);
    assert_eq!(answers.certificate.country.as_deref(), Some("DE"));
    assert_eq!(answers.features.len(), 2);
    console.tell(Event::Step(Step::Certificates));
    console.shows("[ .... ] Certificates");
    console.shows("[ done ] Network settings");
    console.tell(Event::Applied(Ok(())));
    assert!(console.wizard.is_done());
}

#[test]
fn a_failed_set_up_leads_back_to_the_answers() {
    let mut console = Console::begun();
    console.reach_address();
    console.network();
    console.rest();
    console.key(Key::Enter);
    console.tell(Event::Applied(Err(
        "Network settings: no network card".into()
    )));
    console.shows("no network card");
    console.key(Key::Enter);
    console.shows("Set the node up now");
    assert!(!console.wizard.is_done());
}

#[test]
fn an_answer_is_checked_when_it_is_given() {
    let mut console = Console::begun();
    console.reach_address();
    console.key(Key::Enter);
    console.fill(&["-node"]);
    console.shows("Host name must be 1 to 63 letters");
    console.key(Key::Clear);
    console.fill(&["node1", "192.0.2.300"]);
    console.shows("Address must be an address");
    console.key(Key::Clear);
    console.fill(&["192.0.2.11", "255.0.255.0"]);
    console.shows("Mask must be a mask");
    console.key(Key::Clear);
    assert_eq!(console.fill(&["255.255.255.0", "192.0.3.1"]), None);
    console.shows("Gateway must lie in the network of 192.0.2.11/24");
}

#[test]
fn passwords_are_typed_twice_and_never_shown() {
    let mut console = Console::begun();
    console.reach_address();
    console.network();
    console.fill(&["", "short"]);
    console.shows("Password must have 8 characters");
    console.key(Key::Clear);
    console.fill(&["long-enough", "long-enougH"]);
    console.shows("Password again must be the same");
    console.shows("[***********  ");
    assert!(!console.screen().contains("long"), "{}", console.screen());
}

#[test]
fn what_does_not_work_can_be_changed_or_accepted() {
    let failing = || {
        Event::Tried(vec![
            Finding {
                ok: true,
                text: "The address is 192.0.2.11.".into(),
            },
            Finding {
                ok: false,
                text: "The gateway does not answer.".into(),
            },
        ])
    };
    let mut console = Console::begun();
    console.reach_address();
    console.key(Key::Enter);
    console.fill(&[
        "node1",
        "192.0.2.11",
        "24",
        "192.0.2.1",
        "example.org",
        "",
        "",
        "",
    ]);
    console.shows("Trying the network");
    assert_eq!(console.key(Key::Char('x')), None);
    console.tell(failing());
    console.shows("FAIL  The gateway does not answer.");
    console.key(Key::Back);
    console.shows("Domain of the host");
    console.fill(&["", "", "", ""]);
    console.tell(failing());
    console.key(Key::Enter);
    console.shows("Administrator id");
}

#[test]
fn back_and_forward_keep_what_was_typed() {
    let mut console = Console::begun();
    console.reach_address();
    console.key(Key::Enter);
    console.fill(&["node1", "192.0.2.11"]);
    console.key(Key::Back);
    console.key(Key::Next);
    console.key(Key::Enter);
    console.shows("[node1 ");
    assert!(
        !console.screen().contains("192.0.2.11"),
        "DHCP asks for no address"
    );
    console.key(Key::Back);
    console.key(Key::Previous);
    console.key(Key::Enter);
    console.shows("[192.0.2.11 ");
    for _ in 0..4 {
        console.key(Key::Back);
    }
    assert_eq!(console.key(Key::Back), Some(Action::Release));
    console.shows("This node is not set up");
    assert_eq!(console.key(Key::Back), None);
}

#[test]
fn typing_replaces_what_stood_there_and_moving_edits_it() {
    let mut console = Console::begun();
    for _ in 0..2 {
        console.key(Key::Enter);
    }
    console.shows("[1500 ");
    console.type_in("90");
    console.shows("[90 ");
    console.key(Key::Left);
    console.type_in("00");
    console.key(Key::Home);
    console.key(Key::Delete);
    console.key(Key::Backspace);
    console.shows("[000 ");
    console.key(Key::Enter);
    console.shows("must be 1280 to 9000");
}

#[test]
fn a_time_zone_is_found_by_a_part_of_its_name() {
    let mut console = Console::begun();
    console.key(Key::Enter);
    console.shows("Etc/UTC");
    console.type_in("nowhere");
    assert_eq!(console.key(Key::Enter), None);
    console.shows("No time zone has that");
    console.key(Key::Clear);
    console.type_in("europe");
    console.shows("(1 of 2)");
    console.key(Key::Next);
    console.shows("(2 of 2)");
    console.key(Key::Enter);
    console.key(Key::Back);
    console.shows("Search: Europe/London");
}

#[test]
fn features_are_ticked_with_the_space_bar() {
    let mut console = Console::begun();
    console.reach_address();
    console.network();
    console.rest();
    console.key(Key::Back);
    console.shows("[x] The authentication-service");
    console.key(Key::Char(' '));
    console.shows("[ ] The authentication-service");
    console.shows("[x] The xmpp-connection-manager");
    console.key(Key::Enter);
    console.shows("must come with authentication-service");
    console.key(Key::Next);
    console.key(Key::Char(' '));
    console.key(Key::Enter);
    console.shows("Features            none");
}

#[test]
fn a_node_that_joins_asks_its_publisher_at_once() {
    let mut console = Console::begun();
    console.reach_address();
    console.network();
    console.fill(&["", "change-me-please", "change-me-please"]);
    console.fill(&["", "", "", "", ""]);
    console.key(Key::Next);
    console.key(Key::Enter);
    console.shows("First time server");
    console.fill(&["", "", "", "", ""]);
    console.shows("First node (publisher)");
    let action = console.fill(&[
        "",
        "192.0.2.1",
        "example.org",
        "change-me-too",
        "change-me-too",
    ]);
    let Some(Action::Try(Trial::Cluster(answers))) = action else {
        panic!("{action:?}\n{}", console.screen());
    };
    assert_eq!(answers.publisher.as_deref(), Some("192.0.2.1"));
    let refused = "The publisher does not accept the security password.";
    console.tell(Event::Tried(vec![Finding {
        ok: false,
        text: refused.into(),
    }]));
    console.shows(refused);
    console.key(Key::Back);
    console.shows("First node (publisher)");
    let action = console.fill(&["", "", "", ""]);
    assert!(matches!(action, Some(Action::Try(Trial::Cluster(_)))));
    console.well();
    // What the cluster has is not asked again.
    console.shows("Which services to activate now");
    console.key(Key::Enter);
    console.shows("subscriber of 192.0.2.1");
    let Some(Action::Apply(answers)) = console.key(Key::Enter) else {
        panic!("nothing is applied:\n{}", console.screen());
    };
    assert_eq!(setup::check(&answers, &machine()), []);
}

#[test]
fn only_one_console_sets_up() {
    let mut console = Console {
        wizard: Wizard::new(machine()),
    };
    assert_eq!(console.key(Key::Enter), Some(Action::Take));
    console.tell(Event::Taken(Err("ttyS0".into())));
    console.shows("Set-up is going on at ttyS0");
    console.tell(Event::Elsewhere(None));
    assert!(!console.screen().contains("ttyS0"));
}

#[test]
fn answers_from_a_disk_lead_to_the_summary_or_to_what_is_wrong() {
    let import = |text: &str| {
        let mut console = Console {
            wizard: Wizard::new(machine()),
        };
        console.key(Key::Next);
        assert_eq!(console.key(Key::Enter), Some(Action::Import));
        console.tell(Event::Imported(Ok(Box::new(Answers::parse(text).unwrap()))));
        console
    };
    let mut console = import(EXAMPLE);
    console.shows("192.0.2.11/24, gateway 192.0.2.1");
    let Some(Action::Apply(answers)) = console.key(Key::Enter) else {
        panic!("{}", console.screen());
    };
    assert_eq!(*answers, Answers::parse(EXAMPLE).unwrap());
    let mut console = import(&EXAMPLE.replace("192.0.2.1\"", "192.0.3.1\""));
    console.shows("step 5");
    console.shows("Gateway must lie in the network");
    console.key(Key::Clear);
    console.fill(&["192.0.2.1"]);
    console.shows("Name servers");
}

#[test]
fn the_shown_file_has_no_passwords_and_the_saved_one_has() {
    let mut console = Console::begun();
    console.reach_address();
    console.network();
    console.rest();
    console.key(Key::Next);
    let Some(Action::Save(answers)) = console.key(Key::Enter) else {
        panic!("nothing is saved");
    };
    assert!(answers.to_toml().unwrap().contains("change-me-please"));
    console.tell(Event::Saved(Ok("answers.toml on SIGNALBOX".into())));
    console.shows("Saved: answers.toml on SIGNALBOX.");
    console.key(Key::Next);
    console.key(Key::Enter);
    console.shows("hostname = \"node1\"");
    assert!(
        !console.screen().contains("change-me"),
        "{}",
        console.screen()
    );
}

/// Every screen fits on 80 by 24 with its longest message, in characters that
/// every terminal has, and without colour.
#[test]
fn screens_are_plain() {
    let mut console = Console::begun();
    let mut screens = vec![console.screen()];
    console.reach_address();
    screens.push(console.screen());
    console.key(Key::Enter);
    console.fill(&["-"]);
    screens.push(console.screen());
    console.key(Key::Clear);
    console.key(Key::Back);
    console.network();
    console.rest();
    screens.push(console.screen());
    for screen in screens {
        let odd: String = screen
            .chars()
            .filter(|c| !c.is_ascii() && *c != '…')
            .collect();
        assert_eq!(odd, "", "{screen}");
    }
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| console.wizard.draw(frame)).unwrap();
    for cell in terminal.backend().buffer().content() {
        assert_eq!(cell.fg, ratatui::style::Color::Reset);
        assert_eq!(cell.bg, ratatui::style::Color::Reset);
    }
}

#[test]
fn the_summary_looks_as_it_should() {
    let mut console = Console::begun();
    console.reach_address();
    console.network();
    console.rest();
    insta::assert_snapshot!(console.screen());
}

#[test]
fn a_small_screen_is_told_instead_of_broken() {
    let console = Console::begun();
    let mut terminal = Terminal::new(TestBackend::new(40, 10)).unwrap();
    terminal.draw(|frame| console.wizard.draw(frame)).unwrap();
    let line: String = (0..40)
        .map(|x| terminal.backend().buffer()[(x, 0)].symbol())
        .collect();
    assert!(line.contains("smaller than 80 by 24"), "{line}");
}
