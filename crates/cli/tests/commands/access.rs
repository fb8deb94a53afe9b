//! What a command line may not be got to do.

use cli::commands::TREE;
use operations::Level;

use crate::node::{node, shown};

#[tokio::test]
async fn levels_hold_for_every_command() {
    let mut node = node();
    for (level, number) in [
        (Level::Look, 0),
        (Level::Operate, 1),
        (Level::Administer, 4),
    ] {
        node.level = level;
        for command in TREE.commands.iter().filter(|one| one.level() > number) {
            let mut line = command.words.to_owned();
            for argument in command.arguments.iter().filter(|one| one.required) {
                let value = match argument.kind {
                    cli::command::Kind::Choice(words) => words[0],
                    _ => "x",
                };
                line = format!("{line} {value}");
            }
            let (status, text) = node.run(&line).await;
            assert_eq!(status, 1, "{line}");
            assert!(text.contains("privilege level"), "{line}: {text}");
        }
        assert!(node.fakes.world().commands.is_empty());
    }
}

#[tokio::test]
async fn logs_are_read_and_cannot_be_left() {
    let node = node();
    assert_eq!(
        node.run("file list activelog *").await,
        shown("<dir>   journal\n<dir>   web\ndir count = 2, file count = 0\n")
    );
    assert_eq!(
        node.run("file view activelog web/access.log").await,
        shown("one\ntwo\n")
    );
    assert_eq!(
        node.run("file tail activelog web/access.log 1").await,
        shown("two\n")
    );
    for path in [
        "../etc/node.toml",
        "web/../../etc/node.toml",
        "/etc/passwd",
        "..%2fetc/node.toml",
        "journal/../../etc/node.toml",
        "journal/--file=x.log",
    ] {
        let (status, text) = node.run(&format!("file view activelog {path}")).await;
        assert_eq!(status, 1, "{path}");
        assert!(
            !text.contains("example.org") && !text.contains("root:"),
            "{text}"
        );
    }
}

/// What people try to get out of a restricted command line. None of it may be
/// a command, or part of one.
#[tokio::test]
async fn there_is_no_way_to_a_shell() {
    let node = node();
    for line in [
        "sh",
        "bash -i",
        "/bin/sh",
        "!sh",
        "!",
        ":!sh",
        "vi",
        "more /etc/passwd",
        "less",
        "man man",
        "su -",
        "sudo -s",
        "root",
        "exec sh",
        "eval id",
        ". /etc/profile",
        "scp -t /tmp",
        "sftp-server",
        "/usr/lib/openssh/sftp-server",
        "rsync --server",
        "git-receive-pack x",
        "id;sh",
        "utils service list; sh",
        "utils service list | sh",
        "utils service list && sh",
        "utils service list > /tmp/x",
        "utils service list `id`",
        "utils service list $(id)",
        "show status\nsh",
        "file edit activelog x",
        "set cli shell /bin/sh",
        "set network dns primary 192.0.2.1;sh",
        "set network hostname a;sh",
        "set timezone ../../etc/shadow",
        "set timezone $(id)",
        "\u{1b}[A",
        "users import /dev/tcp/192.0.2.1/1",
    ] {
        let (status, text) = node.run(line).await;
        assert_ne!(status, 0, "{line:?}: {text}");
        assert!(!text.contains("uid="), "{line:?}");
    }
    let world = node.fakes.world();
    let harmless = |asked: &String| asked == "list" || asked == "users";
    assert!(world.commands.iter().all(harmless), "{:?}", world.commands);
}
