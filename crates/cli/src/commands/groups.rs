//! `groups …`, `utils ha enable|disable`.

use futures::future::BoxFuture;
use operations::groups::NewGroup;
use operations::{Change, actions};

use crate::command::{Argument, Arguments, Command, Kind};
use crate::reply::{Outcome, Reply};
use crate::session::Session;
use crate::text;

const GROUP: Argument = Argument::required("group", Kind::Text, "Name of the group");
const DESCRIPTION: Argument = Argument::optional(
    "description",
    Kind::Option,
    "What to say of it, at most 128 characters",
);
const PREVIEW: Argument = Argument::optional("preview", Kind::Flag, "Only show what would happen");
const HA: &[Argument] = &[GROUP, PREVIEW];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "groups list",
        arguments: &[],
        action: Some(&actions::GROUPS_LIST),
        help: "List the redundancy groups",
        run: |session, _| {
            Box::pin(async move {
                let groups = session.operations.groups(session.caller).await?;
                let value = serde_json::json!({ "groups": groups });
                Ok(Reply::new(&value, text::groups(&groups)))
            })
        },
    },
    Command {
        words: "groups show",
        arguments: &[GROUP],
        action: Some(&actions::GROUPS_LIST),
        help: "Show a redundancy group",
        run: |session, arguments| {
            Box::pin(async move {
                let name = arguments.text("group");
                let group = session.operations.group(session.caller, name).await?;
                Ok(Reply::new(&group, text::group(&group)))
            })
        },
    },
    Command {
        words: "groups add",
        arguments: &[
            GROUP,
            Argument::required("first", Kind::Text, "Its first node"),
            Argument::optional("second", Kind::Text, "Its second node"),
            DESCRIPTION,
        ],
        action: Some(&actions::GROUPS_ADD),
        help: "Make a redundancy group of one node or two, which leave the groups they are in",
        run: |session, arguments| {
            Box::pin(async move {
                let new = NewGroup {
                    name: arguments.text("group").into(),
                    description: arguments.text("description").into(),
                    first: arguments.text("first").into(),
                    second: arguments.optional("second").map(Into::into),
                };
                let group = session.operations.add_group(session.caller, new).await?;
                Ok(Reply::new(&group, text::group(&group)))
            })
        },
    },
    Command {
        words: "groups change",
        arguments: &[
            GROUP,
            Argument::optional("name", Kind::Option, "Its new name"),
            DESCRIPTION,
            Argument::optional("first", Kind::Option, "Its first node"),
            Argument::optional("second", Kind::Option, "Its second node"),
            Argument::optional("single", Kind::Flag, "It has no second node"),
        ],
        action: Some(&actions::GROUPS_CHANGE),
        help: "Change a redundancy group; a node that it loses gets a group of its own",
        run: |session, arguments| {
            Box::pin(async move {
                let name = arguments.text("group");
                let change = change(session, arguments).await?;
                let group = session
                    .operations
                    .change_group(session.caller, name, change)
                    .await?;
                Ok(Reply::new(&group, text::group(&group)))
            })
        },
    },
    Command {
        words: "groups delete",
        arguments: &[GROUP],
        action: Some(&actions::GROUPS_DELETE),
        help: "End a redundancy group of two nodes; each gets a group of its own",
        run: |session, arguments| {
            Box::pin(async move {
                let name = arguments.text("group");
                let groups = session
                    .operations
                    .delete_group(session.caller, name)
                    .await?;
                let value = serde_json::json!({ "groups": groups });
                let text = format!("Group {name} was deleted.\n{}", text::groups(&groups));
                Ok(Reply::new(&value, text))
            })
        },
    },
    Command {
        words: "utils ha enable",
        arguments: HA,
        action: Some(&actions::AVAILABILITY_SET),
        help: "Switch high availability of a redundancy group on; shows first what will happen",
        run: |session, arguments| switch(session, arguments, true),
    },
    Command {
        words: "utils ha disable",
        arguments: HA,
        action: Some(&actions::AVAILABILITY_SET),
        help: "Switch high availability of a redundancy group off; shows first what will happen",
        run: |session, arguments| switch(session, arguments, false),
    },
];

/// What is to change; a node that is not named stays.
async fn change(session: &Session<'_>, arguments: &Arguments) -> Result<Change, operations::Error> {
    let given = |name: &str| arguments.optional(name).map(str::to_owned);
    let mut nodes = None;
    if ["first", "second", "single"]
        .iter()
        .any(|name| arguments.given(name))
    {
        let name = arguments.text("group");
        let group = session.operations.group(session.caller, name).await?;
        let mut old = group.nodes.into_iter().map(|node| node.name);
        let first = given("first").or(old.next()).unwrap_or_default();
        let second = match given("second") {
            None if arguments.given("single") => None,
            None => old.next().filter(|node| *node != first),
            second => second,
        };
        nodes = Some((first, second));
    }
    Ok(Change {
        name: given("name"),
        description: given("description"),
        nodes,
    })
}

fn switch<'a>(
    session: &'a Session<'a>,
    arguments: &'a Arguments,
    enable: bool,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let name = arguments.text("group");
        let preview = session
            .operations
            .availability_preview(session.caller, name, enable)
            .await?;
        if arguments.given("preview") || preview.already {
            return Ok(Reply::new(&preview, text::availability(&preview)));
        }
        session
            .confirm(text::availability(&preview).trim_end())
            .await?;
        let done = session
            .operations
            .set_availability(session.caller, name, enable)
            .await?;
        Ok(Reply::new(&done, text::switched(&done)))
    })
}
