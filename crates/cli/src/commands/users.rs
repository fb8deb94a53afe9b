//! `users …`.

use operations::users::NewUser;
use operations::{Error, actions};

use crate::command::{Argument, Arguments, Command, Kind};
use crate::reply::{Failure, Reply};
use crate::session::Session;
use crate::text;

const USER: Argument = Argument::required("user", Kind::Text, "Name of the user");
const PASSWORD: Argument = Argument::optional(
    "password",
    Kind::Option,
    "The password; without it you are asked",
);

/// Largest file to import, as the action has it.
const FILE_LIMIT: u64 = 64 << 20;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "users list",
        arguments: &[],
        action: Some(&actions::USERS_LIST),
        help: "List the users",
        run: |session, _| {
            Box::pin(async move {
                let users = session.operations.users(session.caller).await?;
                let value = serde_json::json!({ "users": users });
                Ok(Reply::new(&value, text::users(&users)))
            })
        },
    },
    Command {
        words: "users show",
        arguments: &[USER],
        action: Some(&actions::USERS_LIST),
        help: "Show a user",
        run: |session, arguments| {
            Box::pin(async move {
                let user = session
                    .operations
                    .user(session.caller, arguments.text("user"))
                    .await?;
                Ok(Reply::new(&user, text::user(&user)))
            })
        },
    },
    Command {
        words: "users add",
        arguments: &[
            USER,
            PASSWORD,
            Argument::optional("name", Kind::Option, "Name to show"),
            Argument::optional("mail", Kind::Option, "Mail address"),
        ],
        action: Some(&actions::USERS_ADD),
        help: "Add a user, who may sign in at once",
        run: |session, arguments| {
            Box::pin(async move {
                let new = NewUser {
                    user: arguments.text("user").into(),
                    password: password(session, arguments).await?,
                    name: arguments.text("name").into(),
                    mail: arguments.text("mail").into(),
                };
                let user = session.operations.add_user(session.caller, new).await?;
                let text = format!("{} was added.\n", user.jid);
                Ok(Reply::new(&user, text))
            })
        },
    },
    Command {
        words: "users passwd",
        arguments: &[USER, PASSWORD],
        action: Some(&actions::USERS_PASSWORD),
        help: "Give a user a new password, valid at once",
        run: |session, arguments| {
            Box::pin(async move {
                let password = password(session, arguments).await?;
                let name = arguments.text("user");
                let user = session
                    .operations
                    .set_password(session.caller, name, &password)
                    .await?;
                let text = format!("{} has a new password.\n", user.jid);
                Ok(Reply::new(&user, text))
            })
        },
    },
    Command {
        words: "users delete",
        arguments: &[Argument::required(
            "user",
            Kind::Several,
            "Names of the users",
        )],
        action: Some(&actions::USERS_DELETE),
        help: "Remove users",
        run: |session, arguments| {
            Box::pin(async move {
                let names = arguments.several("user");
                let users = session
                    .operations
                    .delete_users(session.caller, &names)
                    .await?;
                let text = users
                    .iter()
                    .map(|user| format!("{} was removed.\n", user.jid))
                    .collect::<String>();
                Ok(Reply::new(&serde_json::json!({ "users": users }), text))
            })
        },
    },
    Command {
        words: "users import",
        arguments: &[
            Argument::required(
                "file",
                Kind::Text,
                "CSV with the header user,password[,name,mail]; /dev/stdin for standard input",
            ),
            Argument::optional("replace", Kind::Flag, "Change users that there are already"),
        ],
        action: Some(&actions::USERS_IMPORT),
        help: "Add many users; nobody is added when any row is bad",
        run: |session, arguments| {
            Box::pin(async move {
                // Before the file is opened: who may not import may not probe
                // for files either.
                session.caller.may(&actions::USERS_IMPORT)?;
                let content = content(session, arguments.text("file")).await?;
                let replace = arguments.given("replace");
                let imported = session
                    .operations
                    .import_users(session.caller, &content, replace)
                    .await?;
                let text = text::imported(&imported);
                Ok(Reply::new(&imported, text))
            })
        },
    },
];

/// The password of the command line, or the one typed twice.
async fn password(session: &Session<'_>, arguments: &Arguments) -> Result<String, Failure> {
    if let Some(password) = arguments.optional("password") {
        return Ok(password.to_owned());
    }
    if session.json {
        return Err(Error::invalid("--json needs --password PASSWORD").into());
    }
    let first = typed(session, "Password: ").await?;
    if typed(session, "Again: ").await? == first {
        Ok(first)
    } else {
        Err(Error::invalid("the two passwords differ. Type the same one twice").into())
    }
}

async fn typed(session: &Session<'_>, prompt: &str) -> Result<String, Failure> {
    let typed = session.terminal.ask_secret(prompt).await;
    typed.ok_or_else(|| {
        session.terminal.show("\n");
        Error::invalid("no password was given; use --password PASSWORD").into()
    })
}

/// The file, or standard input. What it holds is never repeated in an error.
async fn content(session: &Session<'_>, file: &str) -> Result<Vec<u8>, Failure> {
    let content = session.terminal.read(file, FILE_LIMIT).await;
    content.map_err(|error| Error::failed(format!("{file:?} cannot be read: {error}")).into())
}
