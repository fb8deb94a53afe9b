//! Whose users this node serves, as it goes over the router's socket.

pub(crate) use recovery::{Home, Serving};

use crate::proto;

impl From<proto::Homes> for Serving {
    fn from(homes: proto::Homes) -> Self {
        let home = |home: proto::Home| {
            let known = Home {
                epoch: home.epoch,
                served: home.served,
            };
            (home.node, known)
        };
        homes.homes.into_iter().map(home).collect()
    }
}

impl From<&Serving> for proto::Homes {
    fn from(serving: &Serving) -> Self {
        let home = |(node, home): (&str, Home)| proto::Home {
            node: node.into(),
            epoch: home.epoch,
            served: home.served,
        };
        Self {
            homes: serving.iter().map(home).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_over_the_socket_as_it_is() {
        let mut known = Serving::default();
        for (name, epoch, served) in [("a", 3, true), ("b", 6, false)] {
            known.set(name, Home { epoch, served });
        }
        assert_eq!(Serving::from(proto::Homes::from(&known)), known);
    }
}
