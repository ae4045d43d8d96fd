//! The optimizers that move a row once its force is known: Adam, momentum, and momentum with gains.
//!
//! Every optimizer keeps two numbers (moments) for each component, which a checkpoint holds. Momentum keeps a
//! velocity and a gain; without gains, the gain is always 1. What must hold: a row's step depends only on the
//! row's own moments and the epoch's parameters.

use crate::config::Optimizer;

/// Adam's decay rates β₁ and β₂, as in PyTorch and PaCMAP.
pub(super) const BETAS: [f32; 2] = [0.9, 0.999];
/// Factor of the previous velocity, as in both phases of openTSNE.
const MOMENTUM: f32 = 0.8;
/// A gain is increased by `GAIN_INCREMENT` if the component keeps its direction; otherwise it is multiplied by `GAIN_DECAY`
/// and increased by `MIN_GAIN`, as in openTSNE.
const GAIN_INCREMENT: f32 = 0.2;
const GAIN_DECAY: f32 = 0.8;
const MIN_GAIN: f32 = 0.01;
/// The longest step of momentum, as openTSNE's `max_step_norm`.
const MAX_STEP_NORM: f32 = 5.0;

/// The parameters of the steps of one epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptimizerStep {
    pub(crate) optimizer: Optimizer,
    /// The learning rate.
    pub(crate) rate: f32,
    /// Number of epochs since the optimizer was started or restarted, this one included.
    pub(crate) since: u32,
}

impl OptimizerStep {
    /// Moves a row from `own` to `position` along `force`, the negative gradient, and updates the row's
    /// moments.
    #[inline(always)]
    pub(super) fn step<const DIM: usize>(
        &self,
        force: [f32; DIM],
        own: [f32; DIM],
        position: &mut [f32; DIM],
        moments: &mut [[f32; DIM]; 2],
    ) {
        match self.optimizer {
            Optimizer::Adam => self.adam(force, own, position, moments),
            Optimizer::Momentum | Optimizer::Gains => self.momentum(force, own, position, moments),
        }
    }

    #[inline(always)]
    fn adam<const DIM: usize>(
        &self,
        force: [f32; DIM],
        own: [f32; DIM],
        position: &mut [f32; DIM],
        moments: &mut [[f32; DIM]; 2],
    ) {
        let [beta1, beta2] = BETAS;
        let [first, second] = moments;
        if self.since == 1 {
            (*first, *second) = ([0.0; DIM], [0.0; DIM]);
        }
        // Bias correction of moments that started at zero.
        let correct1 = 1.0 / (1.0 - beta1.powi(self.since as i32));
        let correct2 = 1.0 / (1.0 - beta2.powi(self.since as i32));
        for d in 0..DIM {
            first[d] = beta1.mul_add(first[d], (1.0 - beta1) * force[d]);
            second[d] = beta2.mul_add(second[d], (1.0 - beta2) * force[d] * force[d]);
            position[d] = own[d] + self.rate * (first[d] * correct1) / ((second[d] * correct2).sqrt() + 1e-8);
        }
    }

    #[inline(always)]
    fn momentum<const DIM: usize>(
        &self,
        force: [f32; DIM],
        own: [f32; DIM],
        position: &mut [f32; DIM],
        moments: &mut [[f32; DIM]; 2],
    ) {
        let [velocity, gains] = moments;
        if self.since == 1 {
            (*velocity, *gains) = ([0.0; DIM], [1.0; DIM]);
        }
        let mut square = 0f32;
        for d in 0..DIM {
            if self.optimizer == Optimizer::Gains {
                // A component with zero velocity counts as one that keeps its direction.
                let turns = velocity[d] * force[d] < 0.0;
                gains[d] = if turns { GAIN_DECAY.mul_add(gains[d], MIN_GAIN) } else { gains[d] + GAIN_INCREMENT };
            }
            velocity[d] = MOMENTUM.mul_add(velocity[d], self.rate * gains[d] * force[d]);
            square = velocity[d].mul_add(velocity[d], square);
        }
        let length = square.sqrt();
        let share = if length > MAX_STEP_NORM { MAX_STEP_NORM / length } else { 1.0 };
        for d in 0..DIM {
            velocity[d] *= share;
            position[d] = own[d] + velocity[d];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minimises x² + 10 y² from (3, 2), starting with moments that must be ignored.
    fn descend(optimizer: Optimizer, rate: f32) -> [f32; 2] {
        let (mut at, mut moments) = ([3.0, 2.0], [[7.0; 2]; 2]);
        for since in 1..=400 {
            let (own, force) = (at, [-2.0 * at[0], -20.0 * at[1]]);
            OptimizerStep { optimizer, rate, since }.step(force, own, &mut at, &mut moments);
        }
        at
    }

    #[test]
    fn layout_optimizers_minimize_a_quadratic() {
        for (optimizer, rate) in [(Optimizer::Adam, 0.1), (Optimizer::Momentum, 0.01), (Optimizer::Gains, 0.002)] {
            let at = descend(optimizer, rate);
            assert!(at.iter().all(|x| x.abs() < 0.05), "{optimizer:?}: {at:?}");
        }
    }

    #[test]
    fn a_step_of_momentum_is_no_longer_than_it_may_be() {
        for optimizer in [Optimizer::Momentum, Optimizer::Gains] {
            let (mut at, mut moments) = ([0.0; 2], [[0.0; 2]; 2]);
            let stepper = OptimizerStep { optimizer, rate: 1.0, since: 1 };
            stepper.step([3e9, 4e9], [0.0; 2], &mut at, &mut moments);
            assert!((at[0] - 3.0).abs() < 1e-5 && (at[1] - 4.0).abs() < 1e-5, "{optimizer:?}: {at:?}");
        }
    }

    #[test]
    fn a_gain_grows_on_the_way_and_shrinks_at_a_turn() {
        // The expected velocities, computed by hand.
        for (optimizer, steps) in [
            (Optimizer::Momentum, [1.0, 0.8 + 1.0, 0.8 * 1.8 - 1.0]),
            (Optimizer::Gains, [1.2, 0.8 * 1.2 + 1.4, 0.8 * 2.36 - (0.8 * 1.4 + 0.01)]),
        ] {
            let (mut at, mut moments) = ([0.0], [[0.0]; 2]);
            for ((since, force), step) in [(1, 1.0), (2, 1.0), (3, -1.0)].into_iter().zip(steps) {
                OptimizerStep { optimizer, rate: 1.0, since }.step([force], [0.0], &mut at, &mut moments);
                assert!((at[0] - step as f32).abs() < 1e-6, "{optimizer:?}, step {since}: {at:?} for {step}");
            }
        }
    }
}
