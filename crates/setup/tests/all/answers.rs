//! Answer files: what is accepted, and how an error reads.

use crate::common::{EXAMPLE, machine};
use setup::{Answers, check};

/// The example file with one line replaced.
fn with(line: &str, replacement: &str) -> String {
    assert!(EXAMPLE.contains(line), "the example has no {line:?}");
    EXAMPLE.replace(line, replacement)
}

fn problems(text: &str) -> Vec<String> {
    let answers = Answers::parse(text).expect("the file parses");
    check(&answers, &machine())
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_example_is_valid() {
    assert_eq!(problems(EXAMPLE), Vec::<String>::new());
}

#[test]
fn every_default_in_the_example_is_the_real_one() {
    // Lines such as `#mtu = 1500` show defaults: with and without them the
    // answers are the same.
    let shown: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.contains(" = ") && !rest.starts_with(' ') => rest.to_owned() + "\n",
            _ => line.to_owned() + "\n",
        })
        .collect();
    assert_ne!(shown, EXAMPLE);
    assert_eq!(
        Answers::parse(&shown).unwrap(),
        Answers::parse(EXAMPLE).unwrap()
    );
}

#[test]
fn what_is_written_is_read_again() {
    let answers = Answers::parse(EXAMPLE).unwrap();
    assert_eq!(Answers::parse(&answers.to_toml().unwrap()), Ok(answers));
}

#[test]
fn an_error_of_the_file_names_line_and_field_but_shows_no_secret() {
    let error = Answers::parse(&with("hostname = ", "hostnaem = ")).unwrap_err();
    assert!(
        error.contains("line ") && error.contains("hostnaem") && error.contains("hostname"),
        "{error}"
    );
    let error = Answers::parse(&with(
        "password = \"change-me-please\"",
        "password = 'change-me-please",
    ))
    .unwrap_err();
    assert!(
        error.contains("line ") && !error.contains("change-me"),
        "{error}"
    );
    let error =
        Answers::parse(&with("domain = \"example.org\"\n#time_zone", "#time_zone")).unwrap_err();
    assert!(error.contains("domain"), "{error}");
    let error = Answers::parse(&with(
        "security_password = \"change-me-too\"",
        "security_password = 12345678",
    ))
    .unwrap_err();
    assert!(
        error.contains("string") && !error.contains("1234"),
        "{error}"
    );
}

#[test]
fn every_problem_is_named_with_its_field_and_what_is_allowed() {
    for (line, replacement, field, allowed) in [
        ("#size = \"5K\"", "size = \"7K\"", "size", "15K"),
        ("#product = \"imp\"", "product = \"ucm\"", "product", "imp"),
        (
            "#role = \"publisher\"",
            "role = \"subscriber\"",
            "publisher",
            "first node",
        ),
        (
            "#role = \"publisher\"",
            "publisher = \"192.0.2.11\"",
            "publisher",
            "left out on the first node",
        ),
        (
            "#role = \"publisher\"",
            "role = \"subscriber\"\npublisher = \"192.0.2.11\"",
            "application_user",
            "left out on a node that joins",
        ),
        (
            "#time_zone = \"Etc/UTC\"",
            "time_zone = \"Europe/Nowhere\"",
            "time_zone",
            "Europe/Berlin",
        ),
        (
            "security_password = \"change-me-too\"",
            "security_password = \"short\"",
            "security_password",
            "8 characters",
        ),
        (
            "#features = [\"xmpp-connection-manager\", \"authentication-service\"]",
            "features = [\"sip\"]",
            "features[0]",
            "xmpp-connection-manager",
        ),
        (
            "#features = [\"xmpp-connection-manager\", \"authentication-service\"]",
            "features = [\"xmpp-connection-manager\"]",
            "features[0]",
            "come with authentication-service",
        ),
        (
            "hostname = \"node1\"",
            "hostname = \"-node1\"",
            "network.hostname",
            "hyphen",
        ),
        (
            "address = \"192.0.2.11/24\"",
            "address = \"192.0.2.11\"",
            "network.address",
            "192.0.2.11/24",
        ),
        ("address = \"192.0.2.11/24\"", "", "network.address", "dhcp"),
        (
            "gateway = \"192.0.2.1\"",
            "gateway = \"192.0.3.1\"",
            "network.gateway",
            "192.0.2.11/24",
        ),
        (
            "#dhcp = false",
            "dhcp = true",
            "network.address",
            "left out",
        ),
        (
            "dns = [\"192.0.2.2\"]",
            "dns = [\"a\", \"192.0.2.2\", \"192.0.2.2\"]",
            "network.dns[2]",
            "second time",
        ),
        ("#mtu = 1500", "mtu = 100", "network.mtu", "1280 to 9000"),
        (
            "user = \"admin\"",
            "user = \"daemon\"",
            "administrator.user",
            "system",
        ),
        (
            "user = \"webadmin\"",
            "user = \"1web\"",
            "application_user.user",
            "letter",
        ),
        (
            "country = \"DE\"",
            "country = \"Germany\"",
            "certificate.country",
            "two capital letters",
        ),
        (
            "server = \"mail.example.org\"",
            "server = \"mail server\"",
            "smtp.server",
            "host name",
        ),
        (
            "\"ntp3.example.org\"]",
            "\"a\", \"b\", \"c\", \"d\"]",
            "ntp",
            "at most 5",
        ),
    ] {
        let found = problems(&with(line, replacement));
        assert!(
            found
                .iter()
                .any(|text| text.starts_with(field) && text.contains(allowed)),
            "{replacement}: {found:?}"
        );
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let text = with("hostname = \"node1\"", "hostname = \"-\"")
        .replace("country = \"DE\"", "country = \"x\"");
    assert_eq!(problems(&text).len(), 2);
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let shown = format!("{:?}", Answers::parse(EXAMPLE).unwrap());
    assert!(!shown.contains("change-me"), "{shown}");
}
