"""A plugin for slixmpp: dual connections, as crates/router/DUAL.md tells them."""

from __future__ import annotations

import random

from slixmpp.plugins import BasePlugin, register_plugin
from slixmpp.stanza import StreamFeatures
from slixmpp.xmlstream import ElementBase, StanzaBase, register_stanza_plugin
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

NAMESPACE = "urn:signalbox:dual:0"


class Dual(ElementBase):
    """The stream feature."""

    name, namespace, plugin_attrib = "dual", NAMESPACE, "dual"
    interfaces = {"host", "least", "most"}


class Active(StanzaBase):
    """The connection is a session now."""

    name, namespace, interfaces = "active", NAMESPACE, set()


class DualConnections(BasePlugin):
    """Reads the offer; with `inactive` asks for an inactive connection, and says by the event `dual_active` that it is one no more."""

    name, description = "dual", "Dual connections"
    default_config = {"inactive": False}

    def plugin_init(self):
        self.offer: Dual | None = None
        self.active = not self.inactive
        register_stanza_plugin(StreamFeatures, Dual)
        # Before the mechanisms, whose order is 100.
        self.xmpp.register_feature("dual", self.on_offer, restart=False, order=50)
        self.xmpp.register_stanza(Active)
        self.xmpp.register_handler(Callback("dual active", MatchXPath(f"{{{NAMESPACE}}}active"), self.on_active))

    async def on_offer(self, features) -> bool:
        """The server offers it."""
        self.offer = features["dual"]
        if self.inactive and not self.xmpp.authenticated:
            self.xmpp.send_raw(f"<inactive xmlns='{NAMESPACE}'/>")
        return False

    def on_active(self, _stanza) -> None:
        """This node serves us now."""
        self.active = True
        self.xmpp.event("dual_active")

    def pause(self) -> float:
        """Seconds until the inactive connection is made."""
        return random.uniform(float(self.offer["least"]), float(self.offer["most"]))


register_plugin(DualConnections)
