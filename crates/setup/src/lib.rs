//! First boot: the fence, the wizard, and applying its answers.
