//! One step of training as one function of arrays, and the same without its gradient for evaluation.

use super::adamw::{AdamW, State};
use super::decoder::Decoder;
use super::loss::{self, HeadRows};
use super::rollout;
use mlx_rs::error::Result;
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::ops::stack;
use mlx_rs::transforms::value_and_grad_with_argnums;
use mlx_rs::{Array, Dtype};

/// What a step does, without its arrays.
#[derive(Debug, Clone)]
pub struct Graph {
    pub drafter: Decoder,
    pub target: Decoder,
    pub adamw: AdamW,
    pub hard_weight: f32,
    /// What activations and gradients of both models are computed in.
    pub dtype: Dtype,
    /// Passes of a feature-conditioned drafter, at least 1; none for a drafter that reads tokens only.
    pub rollout: Option<usize>,
}

/// The arrays that training leaves as they are.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// In the order of the target's [`Decoder::tensors`].
    pub target: Vec<Array>,
    /// `[vocab, hidden]`
    pub embedding: Array,
    /// `[vocab, hidden]` float32
    pub head: Array,
    /// `[n, hidden]` float32
    pub draft_head: Array,
    /// `[n]` uint32, ascending
    pub draft_ids: Array,
}

/// Sequences of one width.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[batch, b]` uint32
    pub tokens: Array,
    /// `[batch, b]` float32: 1 where the prediction of the next token counts, else 0.
    pub counted: Array,
    /// float32 scalar: what the sum over positions is divided by.
    pub positions: Array,
}

impl Frozen {
    fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.target.iter().chain([&self.embedding, &self.head, &self.draft_head, &self.draft_ids])
    }

    fn from_arrays(arrays: &[Array]) -> Frozen {
        let [target @ .., embedding, head, draft_head, draft_ids] = arrays else {
            unreachable!("as `arrays` gives them")
        };
        let [embedding, head, draft_head, draft_ids] = [embedding, head, draft_head, draft_ids].map(Array::clone);
        Frozen { target: target.to_vec(), embedding, head, draft_head, draft_ids }
    }

    fn heads(&self) -> HeadRows<'_> {
        HeadRows { all: &self.head, draft: &self.draft_head, draft_ids: &self.draft_ids }
    }
}

/// Everything that [`Graph::step`] reads, in its order.
pub fn step_inputs(state: &State, scalars: &Array, batch: &Batch, frozen: &Frozen) -> Vec<Array> {
    state
        .arrays()
        .chain([scalars, &batch.tokens, &batch.counted, &batch.positions])
        .chain(frozen.arrays())
        .cloned()
        .collect()
}

/// Everything that [`Graph::evaluate`] reads, in its order.
pub fn evaluation_inputs(weights: &[Array], batch: &Batch, frozen: &Frozen) -> Vec<Array> {
    weights.iter().chain([&batch.tokens, &batch.counted, &batch.positions]).chain(frozen.arrays()).cloned().collect()
}

impl Graph {
    /// From [`step_inputs`] to the loss, the gradients' norm and the arrays of the next state.
    pub fn step(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let count = self.drafter.tensors.len();
        let (state, rest) = inputs.split_at(3 * count);
        let state = State::from_arrays(state);
        let scalars = &rest[0];
        let batch = Batch { tokens: rest[1].clone(), counted: rest[2].clone(), positions: rest[3].clone() };
        let frozen = Frozen::from_arrays(&rest[4..]);

        let embedded = frozen.embedding.take_axis(&batch.tokens, 0)?;
        let hidden = self.target_hidden(&embedded, &frozen)?;
        let targets = loss::targets(&flat(&hidden)?, frozen.heads(), self.hard_weight)?;
        let mut arguments = state.weights.clone();
        arguments.extend([embedded, hidden, targets.weights, batch.counted, batch.positions]);
        arguments.extend([frozen.head, frozen.draft_head, frozen.draft_ids]);
        let places: Vec<i32> = (0..count as i32).collect();
        let loss = |arguments: &[Array]| self.loss(arguments).map(|loss| vec![loss]);
        let (values, gradients) = value_and_grad_with_argnums(loss, places.as_slice())(&arguments)?;
        let (next, norm) = self.adamw.update(&state, &gradients, scalars)?;
        let mut outputs = vec![values[0].clone(), norm];
        outputs.extend(next.arrays().cloned());
        Ok(outputs)
    }

    /// From [`evaluation_inputs`] to the loss and, `[passes, batch, b]` bool, whether the drafter's choice is the target's
    /// at each position. `passes` counts for a feature-conditioned drafter only, another one has one.
    pub fn evaluate(&self, inputs: &[Array], passes: usize) -> Result<Vec<Array>> {
        let count = self.drafter.tensors.len();
        let (weights, rest) = inputs.split_at(count);
        let frozen = Frozen::from_arrays(&rest[3..]);
        let embedded = frozen.embedding.take_axis(&rest[0], 0)?;
        let hidden = self.target_hidden(&embedded, &frozen)?;
        let targets = loss::targets(&flat(&hidden)?, frozen.heads(), self.hard_weight)?;
        let drafted = self.hidden(weights, &embedded, &hidden, passes)?;
        let logits = drafted.iter().map(|hidden| loss::logits(&flat(hidden)?, frozen.heads()));
        let logits = logits.collect::<Result<Vec<_>>>()?;
        let hit = |logits: &Array| -> Result<Array> {
            let choice = argmax_axis(logits, -1, false)?;
            frozen.draft_ids.take(choice)?.eq(&targets.tokens)?.reshape(rest[0].shape())
        };
        let hits = logits.iter().map(hit).collect::<Result<Vec<_>>>()?;
        let loss = loss::cross_entropy(&logits[0], &targets.weights, &rest[1].reshape(&[-1])?, &rest[2])?;
        Ok(vec![loss, stack(&hits, 0)?])
    }

    fn target_hidden(&self, embedded: &Array, frozen: &Frozen) -> Result<Array> {
        self.target.with(&frozen.target).hidden(embedded)
    }

    /// The drafter's normed hidden states, one array a pass.
    fn hidden(&self, weights: &[Array], embedded: &Array, target: &Array, passes: usize) -> Result<Vec<Array>> {
        let weights = weights.iter().map(|weight| weight.as_dtype(self.dtype)).collect::<Result<Vec<_>>>()?;
        let drafter = self.drafter.with(&weights);
        match self.rollout {
            None => Ok(vec![drafter.hidden(embedded)?]),
            Some(_) => rollout::hidden(drafter, self.drafter.config.num_layers, embedded, target, passes),
        }
    }

    /// The mean over passes of their cross-entropies. A pass counts where the round that it stands for began at a position
    /// that counts.
    fn loss(&self, arguments: &[Array]) -> Result<Array> {
        let (weights, rest) = arguments.split_at(self.drafter.tensors.len());
        let [embedded, hidden, targets, counted, positions, all, draft, draft_ids] = rest else {
            unreachable!("as `step` has them")
        };
        let passes = self.hidden(weights, embedded, hidden, self.rollout.unwrap_or(1))?;
        let mut sum = Array::from_f32(0.0);
        for (pass, hidden) in passes.iter().enumerate() {
            let logits = loss::logits(&flat(hidden)?, HeadRows { all, draft, draft_ids })?;
            let counted = counted.multiply(rollout::shifted(counted, 1, pass as i32)?)?;
            sum = sum.add(loss::cross_entropy(&logits, targets, &counted.reshape(&[-1])?, positions)?)?;
        }
        sum.divide(Array::from_f32(passes.len() as f32))
    }
}

/// `[batch, b, hidden]` to `[rows, hidden]`.
fn flat(hidden: &Array) -> Result<Array> {
    hidden.reshape(&[-1, hidden.dim(-1)])
}
