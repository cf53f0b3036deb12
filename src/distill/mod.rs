//! Training of a shallow drafter by distillation from its target, on MLX's autograd.
//!
//! corpus → batches → [`graph`] (target's distribution, drafter's loss, gradient, AdamW) → [`checkpoint`] → [`export`]
//!
//! The drafter has the target's width, embedding and head (the rows of the most frequent ids); its layers start as layers
//! of the target. One that reads tokens only is trained on the very states that it meets in use: as long as its drafts are
//! accepted they are the text, so teacher forcing on the target's own text is on-policy. One that also reads the target's
//! hidden states meets its own in their place, for which [`rollout`] trains it.

pub mod acceptance;
pub mod adamw;
pub mod checkpoint;
pub mod corpus;
pub mod decoder;
pub mod export;
pub mod graph;
pub mod loss;
pub mod rollout;
pub mod settings;
pub mod target;
pub mod train;
