//! `show tech`: the support bundle.

use operations::actions;
use operations::monitoring::QUERY_LIMIT;
use operations::tech::{Part, Tech};

use crate::command::{Argument, Command, Kind};
use crate::reply::Reply;
use crate::text;

const SECTIONS: &[&str] = &[
    "all", "system", "network", "services", "database", "perf", "log",
];

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "show tech",
    arguments: &[Argument::optional(
        "section",
        Kind::Choice(SECTIONS),
        "One part of it; all without it",
    )],
    action: Some(&actions::TECH),
    help: "Show everything that helps to understand the node, without secrets",
    run: |session, arguments| {
        Box::pin(async move {
            let tech = session.operations.tech(session.caller).await?;
            let section = arguments.optional("section").unwrap_or("all");
            Ok(Reply::new(&tech, bundle(&tech, section)))
        })
    },
}];

fn part<T>(part: &Part<T>, text: impl FnOnce(&T) -> String) -> String {
    match part {
        Part::Found(found) => text(found),
        Part::Missing(reason) => format!("not available: {reason}\n"),
    }
}

fn bundle(tech: &Tech, section: &str) -> String {
    let mut text = String::new();
    let mut add = |of: &str, title: &str, body: String| {
        if section == "all" || section == of {
            text += &format!("-------------------- {title} --------------------\n{body}\n");
        }
    };
    add(
        "system",
        "node",
        part(&tech.node, |node| {
            format!(
                "name: {}\ndomain: {}\naddress: {}\nrole: {:?}\nproduct: {}\nsize: {}\ncluster: {}\n",
                node.name,
                node.domain,
                node.address,
                node.role,
                node.product,
                node.size,
                node.cluster
            )
        }),
    );
    add("system", "status", part(&tech.status, text::status));
    add("network", "network", part(&tech.network, text::network));
    add(
        "services",
        "services",
        part(&tech.services, text::service_list),
    );
    add(
        "services",
        "alarms",
        part(&tech.alarms, |alarms| text::alarms(alarms)),
    );
    add(
        "database",
        "replication",
        part(&tech.replication, text::replication_status),
    );
    add(
        "database",
        "real-time stores",
        part(&tech.datastores, |stores| text::datastores(stores)),
    );
    add(
        "perf",
        "counters",
        part(&tech.counters, |found| {
            let mut classes: Vec<(String, Vec<_>)> = Vec::new();
            for counter in &found.counters {
                match classes.last_mut() {
                    Some((class, all)) if *class == counter.class => all.push(counter.clone()),
                    _ => classes.push((counter.class.clone(), vec![counter.clone()])),
                }
            }
            classes.chunks(QUERY_LIMIT).map(text::perf_query).collect()
        }),
    );
    add(
        "log",
        "newest log lines",
        part(&tech.log, |lines| lines.join("\n") + "\n"),
    );
    text
}
