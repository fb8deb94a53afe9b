//! Users: add, list, show, delete, and new passwords.

use jid::NodePart;
use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};
use crate::ports::{DeriveKeys, UserChange, UserRecord};

/// Longest display name and mail address, in characters.
const TEXT_LIMIT: usize = 256;
/// Longest user name and password, in bytes.
const NAME_LIMIT: usize = 255;
const PASSWORD_LIMIT: usize = 1023;

/// A user as shown; the keys stay in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Name, the local part of the JID.
    pub user: String,
    /// The whole JID.
    pub jid: String,
    /// Display name.
    pub name: String,
    /// Mail address.
    pub mail: String,
    /// Whether the user may sign in.
    pub enabled: bool,
    /// Home node; empty while none is assigned.
    pub node: String,
}

/// A user to add, with the password in clear.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NewUser {
    /// Name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Display name, may be empty.
    pub name: String,
    /// Mail address, may be empty.
    pub mail: String,
}

// A password must not reach a log by way of `{:?}`.
impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl NewUser {
    /// Checks every field and brings the name into the form that XMPP
    /// compares (lower case among others). The error names the field.
    pub(crate) fn checked(mut self) -> std::result::Result<Self, String> {
        self.user = user_name(&self.user)?;
        if self.password.is_empty() {
            return Err("the password is empty".into());
        }
        if self.password.len() > PASSWORD_LIMIT {
            return Err(format!(
                "the password is longer than {PASSWORD_LIMIT} bytes"
            ));
        }
        if self.password.chars().any(char::is_control) {
            return Err("the password has control characters".into());
        }
        for (field, text) in [("name", &self.name), ("mail", &self.mail)] {
            if text.chars().count() > TEXT_LIMIT {
                return Err(format!(
                    "the {field} is longer than {TEXT_LIMIT} characters"
                ));
            }
            if text.chars().any(char::is_control) {
                return Err(format!("the {field} has control characters"));
            }
        }
        if !self.mail.is_empty() && !plausible_mail(&self.mail) {
            return Err("the mail address must have the form someone@example.org".into());
        }
        Ok(self)
    }

    /// The row, with the keys derived from the password. Costly.
    pub(crate) fn record(
        &self,
        derive: DeriveKeys,
        iterations: u32,
    ) -> std::result::Result<UserRecord, String> {
        let (scram_sha1, scram_sha256) = derive(&self.password, iterations)?;
        Ok(UserRecord {
            user: self.user.clone(),
            name: self.name.clone(),
            mail: self.mail.clone(),
            enabled: true,
            node: String::new(),
            scram_sha1: Some(scram_sha1),
            scram_sha256: Some(scram_sha256),
        })
    }
}

/// A user name in the form that XMPP compares.
pub(crate) fn user_name(given: &str) -> std::result::Result<String, String> {
    let given = given.trim();
    if given.is_empty() {
        return Err("the user name is empty".into());
    }
    if given.contains('@') {
        return Err("the user name must be given without @ and domain".into());
    }
    if given.len() > NAME_LIMIT {
        return Err(format!("the user name is longer than {NAME_LIMIT} bytes"));
    }
    match NodePart::new(given) {
        Ok(name) => Ok(name.to_string()),
        Err(_) => Err(
            "the user name may not contain blanks, control characters or any of \" & ' / : < > @"
                .into(),
        ),
    }
}

/// Refusal of a change of what somebody else has changed since it was read.
pub(crate) fn changed_meanwhile(what: &str) -> Error {
    Error::refused(format!(
        "the users changed meanwhile: {what}. See \"users list\", then run it again"
    ))
}

fn plausible_mail(mail: &str) -> bool {
    mail.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !domain.contains('@')
            && !mail.contains(char::is_whitespace)
    })
}

impl Operations {
    pub(crate) fn user_view(&self, record: UserRecord) -> User {
        let domain = self.node().map(|node| node.domain).unwrap_or_default();
        User {
            jid: format!("{}@{domain}", record.user),
            user: record.user,
            name: record.name,
            mail: record.mail,
            enabled: record.enabled,
            node: record.node,
        }
    }

    /// Every user, by name.
    pub async fn users(&self, caller: &Caller) -> Result<Vec<User>> {
        let work = async {
            let mut records = self.storage().users().await?;
            records.sort_by(|a, b| a.user.cmp(&b.user));
            Ok(records
                .into_iter()
                .map(|record| self.user_view(record))
                .collect())
        };
        caller.does(&actions::USERS_LIST, "", work).await
    }

    /// One user.
    pub async fn user(&self, caller: &Caller, name: &str) -> Result<User> {
        let work = async {
            let record = self.existing(name).await?;
            Ok(self.user_view(record))
        };
        caller.does(&actions::USERS_LIST, name, work).await
    }

    /// Adds a user, who may sign in at once.
    pub async fn add_user(&self, caller: &Caller, new: NewUser) -> Result<User> {
        let subject = new.user.clone();
        let work = async {
            let new = new.checked().map_err(Error::invalid)?;
            if self.storage().user(&new.user).await?.is_some() {
                return Err(Error::refused(format!(
                    "there is a user {} already. \"users passwd {}\" gives them a new password",
                    new.user, new.user
                )));
            }
            let record = self.derived(new).await?;
            let change = UserChange::Insert(record.clone());
            self.storage().commit_users(vec![change]).await?;
            Ok(self.user_view(record))
        };
        caller.does(&actions::USERS_ADD, &subject, work).await
    }

    /// Removes users, all of them or none.
    pub async fn delete_users(&self, caller: &Caller, names: &[String]) -> Result<Vec<User>> {
        let subject = names.join(", ");
        let work = async {
            let mut removed = Vec::new();
            for name in names {
                removed.push(self.existing(name).await?);
            }
            let changes = removed
                .iter()
                .map(|record| UserChange::Delete(record.user.clone()))
                .collect();
            self.storage().commit_users(changes).await?;
            Ok(removed
                .into_iter()
                .map(|record| self.user_view(record))
                .collect())
        };
        caller.does(&actions::USERS_DELETE, &subject, work).await
    }

    /// Gives a user a new password, valid at once.
    pub async fn set_password(&self, caller: &Caller, name: &str, password: &str) -> Result<User> {
        let work = async {
            let record = self.existing(name).await?;
            let new = NewUser {
                user: record.user.clone(),
                password: password.into(),
                name: record.name.clone(),
                mail: record.mail.clone(),
            };
            let mut changed = self.derived(new.checked().map_err(Error::invalid)?).await?;
            changed.enabled = record.enabled;
            changed.node.clone_from(&record.node);
            let change = UserChange::Replace {
                old: record.into(),
                new: changed.clone(),
            };
            self.storage().commit_users(vec![change]).await?;
            Ok(self.user_view(changed))
        };
        caller.does(&actions::USERS_PASSWORD, name, work).await
    }

    async fn existing(&self, name: &str) -> Result<UserRecord> {
        let name = user_name(name).map_err(Error::invalid)?;
        self.storage().user(&name).await?.ok_or_else(|| {
            Error::not_found(format!(
                "there is no user {name}. \"users list\" shows those there are"
            ))
        })
    }

    /// How often new passwords are hashed: the authentication service's
    /// parameter, within what the database takes.
    pub(crate) async fn iterations(&self) -> Result<u32> {
        let parameter = self
            .storage()
            .parameter(authentication::ID, authentication::ITERATIONS)
            .await?;
        Ok(authentication::iterations(parameter.as_deref()))
    }

    async fn derived(&self, new: NewUser) -> Result<UserRecord> {
        let derive = self.derive();
        let iterations = self.iterations().await?;
        tokio::task::spawn_blocking(move || new.record(derive, iterations))
            .await
            .map_err(|error| Error::failed(format!("the keys were not derived: {error}")))?
            .map_err(Error::invalid)
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Kind;
    use crate::fakes::{Fakes, administrator};

    use super::*;

    fn new(user: &str, password: &str, mail: &str) -> std::result::Result<NewUser, String> {
        let new = NewUser {
            user: user.into(),
            password: password.into(),
            name: String::new(),
            mail: mail.into(),
        };
        new.checked()
    }

    #[test]
    fn a_name_is_brought_into_the_form_that_xmpp_compares() {
        assert_eq!(new("Alice", "secret", "").unwrap().user, "alice");
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (user, password, mail, field) in [
            ("", "x", "", "user name is empty"),
            ("a b", "x", "", "user name"),
            ("a@example.org", "x", "", "without @"),
            ("a<b", "x", "", "user name"),
            ("a", "", "", "password"),
            ("a", "x\ty", "", "password"),
            ("a", "x", "nobody", "mail"),
            ("a", "x", "a@b@c", "mail"),
        ] {
            let message = new(user, password, mail).unwrap_err();
            assert!(message.contains(field), "{user:?}: {message}");
        }
    }

    #[tokio::test]
    async fn a_new_password_does_not_bring_a_deleted_user_back() {
        let fakes = Fakes::default();
        let folder = tempfile::tempdir().unwrap();
        let operations = fakes.operations(folder.path());
        let alice = new("alice", "secret", "").unwrap();
        operations.add_user(&administrator(), alice).await.unwrap();
        fakes.world().meanwhile = vec![UserChange::Delete("alice".into())];
        let refused = operations
            .set_password(&administrator(), "alice", "other")
            .await
            .unwrap_err();
        assert_eq!(refused.kind, Kind::Refused);
        assert!(refused.message.contains("run it again"), "{refused}");
        assert!(fakes.world().users.is_empty());
    }

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        let shown = format!("{:?}", new("alice", "hunter2", "").unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
