//! `utils dbreplication voters …`.

use std::fmt::Write as _;

use operations::voters::{Voters, VotersChange};

/// Who votes, and how many may be lost.
pub(crate) fn voters(voters: &Voters) -> String {
    let mut text = String::from(if voters.enabled {
        "Every node votes; when the publisher is lost, another one is elected.\n"
    } else {
        "The publisher votes alone; nothing can be changed without it.\n"
    });
    let _ = match &voters.publisher {
        Some(name) => writeln!(text, "Publisher: {name}"),
        None => writeln!(text, "Publisher: none now"),
    };
    if voters.enabled {
        let _ = match voters.spare {
            None => writeln!(
                text,
                "No majority answers: nothing can be changed until it does."
            ),
            Some(0) => writeln!(text, "No voter more may be lost."),
            Some(1) => writeln!(text, "One voter more may be lost."),
            Some(more) => writeln!(text, "{more} voters more may be lost."),
        };
    }
    for node in &voters.nodes {
        let _ = writeln!(
            text,
            "     {:<24}{:<10}{:<15}({})",
            node.name,
            if node.votes { "votes" } else { "learns" },
            if node.answers { "answers" } else { "no answer" },
            node.state
        );
    }
    text
}

/// What it means to change who votes.
pub(crate) fn voters_change(change: &VotersChange) -> String {
    let mut text = voters(&change.voters);
    if !change.refusal.is_empty() {
        let _ = writeln!(text, "It is refused: {}.", change.refusal);
        return text;
    }
    text + if change.enable {
        "Every node gets a vote. A change counts when a majority of the nodes has it, and when the \
         publisher is lost, the others elect another one, which takes changes within seconds. While \
         no majority answers, nothing can be changed: of three nodes one may be lost, of five two. A \
         node that joins later votes as soon as it has caught up.\n"
    } else {
        "The node that is the publisher now votes alone. When it is lost, nothing can be changed until \
         it is back or another one is promoted by hand.\n"
    }
}

#[cfg(test)]
mod tests {
    use operations::voters::Voter;

    use super::*;

    #[test]
    fn who_votes_is_told_by_node_and_what_may_be_lost() {
        let voter = |name: &str, votes, answers| Voter {
            name: name.into(),
            votes,
            answers,
            state: 2,
        };
        let mut found = Voters {
            enabled: true,
            publisher: Some("beta".into()),
            spare: Some(0),
            nodes: vec![voter("alpha", true, false), voter("delta", false, true)],
        };
        assert_eq!(
            voters(&found),
            "Every node votes; when the publisher is lost, another one is elected.\n\
             Publisher: beta\nNo voter more may be lost.\n     \
             alpha                   votes     no answer      (2)\n     \
             delta                   learns    answers        (2)\n"
        );
        found.enabled = false;
        found.publisher = None;
        let change = VotersChange {
            voters: found,
            enable: true,
            refusal: "it has two nodes".into(),
            text: String::new(),
        };
        let text = voters_change(&change);
        assert!(
            text.contains("votes alone") && text.contains("Publisher: none now"),
            "{text}"
        );
        assert!(
            text.ends_with("It is refused: it has two nodes.\n"),
            "{text}"
        );
        let change = VotersChange {
            refusal: String::new(),
            ..change
        };
        assert!(voters_change(&change).contains("of three nodes one may be lost"));
    }
}
