//! From words to a command: errors, completion, help.

use cli::commands::TREE;
use cli::parse::Completion;
use cli::words::split;

#[test]
fn errors_name_what_may_come() {
    let usage = |line: &str| TREE.parse(&split(line)).unwrap_err();
    let error = usage("utils servce list");
    assert_eq!(
        error.message,
        "\"servce\" is not known here; after \"utils\" comes one of: dbreplication, \
         ha, imdb_replication, service, system"
    );
    assert_eq!(
        usage("show perf").message,
        "the command is not complete; after \"show perf\" comes one of: list, query"
    );
    assert_eq!(
        usage("users add").message,
        "the command is not complete; \"users add\" needs USER. Syntax: users add USER \
         [--password PASSWORD] [--name NAME] [--mail MAIL]"
    );
    assert!(
        usage("users list --force")
            .message
            .contains("has no option --force")
    );
    assert!(
        usage("users show a b")
            .message
            .contains("one word too many")
    );
    assert!(usage("users show \"a").message.contains("not closed"));
}

#[test]
fn completion_and_help_come_from_the_same_list() {
    let services = || {
        vec![
            "Cisco XCP Router".to_owned(),
            "Cisco XCP Connection Manager".to_owned(),
        ]
    };
    let complete = |line: &str| TREE.complete(&split(line), &services);
    let insert = |replace, text: &str| Completion::Insert {
        replace,
        text: text.into(),
    };
    assert_eq!(complete("ut"), insert(2, "utils "));
    assert_eq!(
        complete("utils service st"),
        Completion::Choose(vec!["start".into(), "stop".into()])
    );
    assert_eq!(
        complete("utils service start Cisco XCP R"),
        insert(11, "Cisco XCP Router ")
    );
    assert_eq!(complete("utils service start "), insert(0, "Cisco XCP "));
    assert_eq!(
        complete("show version "),
        Completion::Choose(vec!["active".into(), "inactive".into()])
    );
    assert_eq!(complete("users list --j"), insert(3, "--json "));
    assert_eq!(complete("nonsense "), Completion::Nothing);
    let help = TREE.help(&split("show version "), &services);
    assert!(
        help.starts_with("Syntax: show version active|inactive\n"),
        "{help}"
    );
    assert!(TREE.help(&split(""), &services).contains("    utils   "));
    assert!(TREE.is_free_text(&split("users add bob --password a")));
    assert!(!TREE.is_free_text(&split("show ve")));
}

#[test]
fn every_command_and_group_has_help() {
    for command in TREE.commands {
        assert!(!command.help.is_empty(), "{}", command.words);
        let words: Vec<_> = command.words.split(' ').collect();
        for length in 1..words.len() {
            let group = words[..length].join(" ");
            let known = TREE.groups.iter().any(|(name, _)| *name == group)
                || TREE.commands.iter().any(|one| one.words == group);
            assert!(known, "{group}");
        }
    }
}
