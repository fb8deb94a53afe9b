//! Users' home nodes: `users assign|unassign|move|rebalance`,
//! `show|set user-assignment mode`.

use std::time::Duration;

use futures::future::BoxFuture;
use operations::homes::{AssignmentMode, Pace, Wish};
use operations::{Error, actions};

use crate::command::{Argument, Arguments, Command, Kind};
use crate::reply::{Outcome, Reply};
use crate::session::Session;
use crate::text;

const USERS: Argument = Argument::required("user", Kind::Several, "Names of the users");
const PREVIEW: Argument = Argument::optional("preview", Kind::Flag, "Only show who would move");
const BATCH: Argument = Argument::optional(
    "batch",
    Kind::Option,
    "Users that move at a time, 1 to 500; 50 without it",
);
const PAUSE: Argument = Argument::optional(
    "pause",
    Kind::Option,
    "Seconds between two batches, 0 to 600; 1 without it",
);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "users assign",
        arguments: &[
            Argument::required("node", Kind::Text, "Their home node"),
            USERS,
        ],
        action: Some(&actions::USERS_ASSIGN),
        help: "Give users a home node, where they sign in again",
        run: |session, arguments| {
            Box::pin(async move {
                let wish = Wish::Users {
                    users: arguments.several("user"),
                    to: arguments.text("node").into(),
                };
                carry_out(session, &wish, Pace::default()).await
            })
        },
    },
    Command {
        words: "users unassign",
        arguments: &[USERS],
        action: Some(&actions::USERS_ASSIGN),
        help: "Take users' home node from them; unless the mode is none they get one again",
        run: |session, arguments| {
            Box::pin(async move {
                let wish = Wish::Users {
                    users: arguments.several("user"),
                    to: String::new(),
                };
                carry_out(session, &wish, Pace::default()).await
            })
        },
    },
    Command {
        words: "users move",
        arguments: &[
            Argument::required("from", Kind::Text, "The node that they leave"),
            Argument::optional(
                "to",
                Kind::Text,
                "Where to; without it to the others, those with the fewest users first",
            ),
            BATCH,
            PAUSE,
            PREVIEW,
        ],
        action: Some(&actions::USERS_MOVE),
        help: "Move all users of a node, in batches; Ctrl-C ends it, and it can go on later",
        run: |session, arguments| {
            Box::pin(async move {
                let wish = Wish::Leave {
                    from: arguments.text("from").into(),
                    to: arguments.optional("to").map(Into::into),
                };
                ask_and_carry_out(session, arguments, wish).await
            })
        },
    },
    Command {
        words: "users rebalance",
        arguments: &[
            Argument::optional("group", Kind::Option, "Only inside this redundancy group"),
            BATCH,
            PAUSE,
            PREVIEW,
        ],
        action: Some(&actions::USERS_REBALANCE),
        help: "Even the nodes' users out as the mode of assignment says, in batches; Ctrl-C ends \
               it, and it can go on later",
        run: |session, arguments| {
            Box::pin(async move {
                let wish = Wish::Balance {
                    group: arguments.optional("group").map(Into::into),
                };
                ask_and_carry_out(session, arguments, wish).await
            })
        },
    },
    Command {
        words: "show user-assignment mode",
        arguments: &[],
        action: Some(&actions::ASSIGNMENT_SHOW),
        help: "Show how users who have no home node get one",
        run: |session, _| {
            Box::pin(async move {
                let mode = session.operations.assignment_mode(session.caller).await?;
                Ok(shown(mode))
            })
        },
    },
    Command {
        words: "set user-assignment mode",
        arguments: &[Argument::required(
            "mode",
            Kind::Choice(&["balanced", "active-standby", "none"]),
            "Over all nodes, over the first ones of the groups, or not at all",
        )],
        action: Some(&actions::ASSIGNMENT_SET),
        help: "Choose how users who have no home node get one",
        run: |session, arguments| {
            Box::pin(async move {
                let mode = arguments.text("mode").parse();
                let mode = mode.map_err(|error: operations::Refusal| Error::invalid(error.0))?;
                let mode = session
                    .operations
                    .set_assignment_mode(session.caller, mode)
                    .await?;
                Ok(shown(mode))
            })
        },
    },
];

fn shown(mode: AssignmentMode) -> Reply {
    let text = format!("user-assignment mode is {}\n", mode.mode.word());
    Reply::new(&mode, text)
}

async fn carry_out(session: &Session<'_>, wish: &Wish, pace: Pace) -> Outcome {
    let moved = |done: usize, all: usize| {
        if done < all {
            session.progress(&format!("{done} of {all} users have moved."));
        }
    };
    let moves = session
        .operations
        .move_users(session.caller, wish, pace, &moved)
        .await?;
    Ok(Reply::new(&moves, text::moved(&moves)))
}

fn ask_and_carry_out<'a>(
    session: &'a Session<'a>,
    arguments: &'a Arguments,
    wish: Wish,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let pace = pace(arguments)?;
        let plan = session.operations.plan_moves(session.caller, &wish).await?;
        if arguments.given("preview") || plan.moves == 0 {
            return Ok(Reply::new(&plan, text::moves(&plan)));
        }
        let warning = text::moves(&plan) + &text::pace(&plan, pace);
        session.confirm(warning.trim_end()).await?;
        carry_out(session, &wish, pace).await
    })
}

fn pace(arguments: &Arguments) -> Result<Pace, Error> {
    let default = Pace::default();
    let number = |name: &str, default: u64| match arguments.optional(name) {
        None => Ok(default),
        Some(text) => text.parse::<u64>().map_err(|_| {
            Error::invalid(format!(
                "--{name} is a whole number, such as {default}, not {text:?}"
            ))
        }),
    };
    let batch = number("batch", default.batch as u64)?;
    Ok(Pace {
        batch: usize::try_from(batch).unwrap_or(usize::MAX),
        pause: Duration::from_secs(number("pause", default.pause.as_secs())?),
    })
}
