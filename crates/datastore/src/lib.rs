//! Real-time stores for soft state that dies with its owner.
