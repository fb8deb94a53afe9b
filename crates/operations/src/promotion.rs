//! This node promoted by hand, when the publisher is lost for good.

use database::Promotion;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};
use crate::repair::by;

impl Operations {
    /// What the promotion of this node means: what may be lost, and why it is
    /// refused where it is. Nothing is changed.
    pub async fn promotion_preview(&self, caller: &Caller) -> Result<Promotion> {
        caller.may(&actions::REPLICATION_PROMOTE)?;
        self.storage().promote(false, "").await
    }

    /// Promotes this node: its database begins a new log with what it has, and
    /// the other nodes begin anew with that.
    pub async fn promote(&self, caller: &Caller) -> Result<Promotion> {
        let work = async {
            let done = self.storage().promote(true, &by(caller)).await?;
            if done.refusal.is_empty() {
                Ok(done)
            } else {
                Err(Error::refused(done.refusal))
            }
        };
        caller.does(&actions::REPLICATION_PROMOTE, "", work).await
    }
}

#[cfg(test)]
mod tests {
    use crate::Level;
    use crate::error::Kind;
    use crate::fakes::{Fakes, administrator};

    use super::*;

    #[tokio::test]
    async fn it_is_shown_and_done_unless_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fakes = Fakes::default();
        let operations = fakes.operations(folder.path());
        let admin = administrator();
        let shown = operations.promotion_preview(&admin).await.unwrap();
        assert_eq!(shown.text, "");
        let orders = |fakes: &Fakes| {
            let world = fakes.world();
            let orders = world
                .commands
                .iter()
                .filter(|it| it.starts_with("promote "));
            orders.count()
        };
        assert_eq!(orders(&fakes), 0);
        assert_eq!(operations.promote(&admin).await.unwrap().text, "Promoted.");
        assert_eq!(orders(&fakes), 1);
        fakes.world().promotion.refusal = "the publisher answers".into();
        let shown = operations.promotion_preview(&admin).await.unwrap();
        assert_eq!(shown.refusal, "the publisher answers");
        let refused = operations.promote(&admin).await.unwrap_err();
        assert_eq!(
            (refused.kind, &*refused.message),
            (Kind::Refused, "the publisher answers")
        );
        let operator = Caller {
            level: Level::Operate,
            ..admin
        };
        let forbidden = operations.promotion_preview(&operator).await;
        assert_eq!(forbidden.unwrap_err().kind, Kind::Forbidden);
    }
}
