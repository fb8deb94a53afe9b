//! Answers from OVF properties: the environment file that a hypervisor hands
//! to the machine on a disc.

use rxml::error::EndOrError;
use rxml::parser::{CommentMode, Options};
use rxml::{Event, Parse, Parser, WithOptions};
use serde::Deserialize;
use toml::{Table, Value};

use crate::answers::Answers;

/// Namespace of the environment and of its attributes.
const NAMESPACE: &str = "http://schemas.dmtf.org/ovf/environment/1";
/// What may stand before the name of a property.
const PREFIX: &str = "signalbox.";
/// Fields that are lists; a property gives them with commas between.
const LISTS: [&str; 3] = ["ntp", "features", "network.dns"];

/// Reads the properties of an environment file. A property is a field of the
/// answer file with a dot between table and field, such as
/// `network.hostname`. Properties that are empty or `null` count as not
/// given, and so does a file in which every one is.
pub(crate) fn answers(text: &str) -> Option<Result<Answers, String>> {
    let properties = match properties(text) {
        Ok(properties) if properties.is_empty() => return None,
        Ok(properties) => properties,
        Err(why) => return Some(Err(format!("it is not an OVF environment: {why}"))),
    };
    let mut table = Table::new();
    for (name, value) in properties {
        if let Err(why) = insert(&mut table, &name, &value) {
            return Some(Err(why));
        }
    }
    let answers = Answers::deserialize(Value::Table(table));
    Some(answers.map_err(|error| error.message().into()))
}

/// The root element and what follows. What stands before it (declaration,
/// comments) differs between hypervisors and says nothing; a document type is
/// refused.
fn root(text: &str) -> Result<&str, String> {
    let starts_name = |at: &usize| {
        let next = text.as_bytes().get(at + 1);
        next.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
    };
    let mut tags = text.match_indices('<').map(|(at, _)| at);
    let start = tags.find(starts_name).ok_or("it has no element")?;
    if text[..start].contains("<!DOCTYPE") {
        return Err("it has a document type".into());
    }
    Ok(&text[start..])
}

/// The properties that are given, in their order.
fn properties(text: &str) -> Result<Vec<(String, String)>, String> {
    let options = Options {
        comments: CommentMode::Discard,
        ..Options::default()
    };
    let mut parser = Parser::with_options(options);
    let document = format!("<?xml version='1.0'?>{}", root(text)?);
    let mut rest = document.as_bytes();
    let mut found = Vec::new();
    loop {
        match parser.parse(&mut rest, true) {
            Ok(Some(Event::StartElement(_, (namespace, name), attributes))) => {
                if namespace.as_str() != NAMESPACE || name.as_str() != "Property" {
                    continue;
                }
                let get = |wanted: &str| {
                    let mut all = attributes.iter();
                    let one = all.find(|((_, name), _)| name.as_str() == wanted);
                    one.map(|(_, value)| value.trim().to_owned())
                };
                if let (Some(key), Some(value)) = (get("key"), get("value"))
                    && !value.is_empty()
                    && value != "null"
                {
                    found.push((key, value));
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(found),
            Err(EndOrError::NeedMoreData) => return Err("it ends too early".into()),
            Err(EndOrError::Error(error)) => return Err(error.to_string()),
        }
    }
}

fn insert(table: &mut Table, name: &str, value: &str) -> Result<(), String> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let typed = if LISTS.contains(&name) {
        let entries = value.split([',', ' ']).filter(|entry| !entry.is_empty());
        Value::Array(entries.map(|entry| Value::String(entry.into())).collect())
    } else if name == "network.mtu" {
        let number = value.parse::<i64>();
        Value::Integer(number.map_err(|_| "network.mtu must be a number".to_owned())?)
    } else if name == "network.dhcp" {
        match value.to_lowercase().as_str() {
            "true" | "yes" => Value::Boolean(true),
            "false" | "no" => Value::Boolean(false),
            _ => return Err("network.dhcp must be true or false".into()),
        }
    } else {
        Value::String(value.into())
    };
    let (table, field) = match name.split_once('.') {
        None => (table, name),
        Some((outer, field)) => {
            let inner = table
                .entry(outer)
                .or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut();
            (
                inner.ok_or_else(|| format!("{outer} has no fields"))?,
                field,
            )
        }
    };
    if table.insert(field.into(), typed).is_some() {
        return Err(format!("{name} is given twice"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(properties: &[(&str, &str)]) -> String {
        let lines: Vec<String> = properties
            .iter()
            .map(|(key, value)| format!("<Property oe:key=\"{key}\" oe:value=\"{value}\"/>"))
            .collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- by a hypervisor -->\n<Environment \
             xmlns=\"{NAMESPACE}\" xmlns:oe=\"{NAMESPACE}\" oe:id=\"vm1\">\n<PropertySection>{}\
             </PropertySection></Environment>\n",
            lines.join("\n")
        )
    }

    const GOOD: [(&str, &str); 9] = [
        ("signalbox.domain", "example.org"),
        ("security_password", "change-me-too"),
        ("network.hostname", "node1"),
        ("network.dhcp", "true"),
        ("network.address", "null"),
        ("network.gateway", ""),
        ("network.dns", "192.0.2.2, 192.0.2.3"),
        ("administrator.user", "admin"),
        ("administrator.password", "a &lt; b &amp; c"),
    ];

    #[test]
    fn properties_become_answers() {
        let answers = answers(&environment(&GOOD)).unwrap().unwrap();
        assert_eq!(answers.domain, "example.org");
        assert_eq!(answers.network.dns, ["192.0.2.2", "192.0.2.3"]);
        assert!(answers.network.dhcp);
        assert_eq!(answers.network.address, None);
        assert_eq!(answers.administrator.password.0, "a < b & c");
    }

    #[test]
    fn an_environment_in_which_nothing_is_given_asks_the_wizard() {
        let unset = GOOD.map(|(key, _)| (key, "null"));
        assert!(answers(&environment(&unset)).is_none());
        assert!(answers(&environment(&[])).is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (key, value, what) in [
            ("network.hostnaem", "x", "hostnaem"),
            ("network.mtu", "big", "network.mtu"),
            ("network.dhcp", "perhaps", "network.dhcp"),
            ("domain", "twice.example.org", "twice"),
            ("domain.x", "y", "domain has no fields"),
        ] {
            let mut properties = GOOD.to_vec();
            properties.push((key, value));
            let why = answers(&environment(&properties)).unwrap().unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }

    #[test]
    fn entities_and_document_types_are_refused() {
        let text = environment(&GOOD).replace(
            "<!-- by a hypervisor -->",
            "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/shadow\">]>",
        );
        assert!(answers(&text).unwrap().is_err());
        assert!(answers("").unwrap().is_err());
    }
}
