//! First-order optimizers on flat vectors. Their state is a plain struct, which is part of a
//! checkpoint.

use serde::{Deserialize, Serialize};

use super::poincare;

/// An optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DescentOptimizer {
    /// SGD with momentum: v ← m·v + g, x ← x − lr·v.
    Sgd {
        /// m, at least 0 and below 1. `None` is TorchDR's "auto": 0.5 while the attraction is
        /// exaggerated, 0.8 after.
        momentum: Option<f64>,
    },
    /// Adam (Kingma, Ba 2015).
    Adam(Adam),
    /// Adam in the Poincaré ball (Bécigneul, Ganea 2019): uses the Riemannian gradient, one second
    /// moment for each row, and parallel transport of the first moment.
    ///
    /// The bias correction counts each step once, as in the paper. TorchDR's code counts each step
    /// twice.
    RiemannianAdam(Adam),
}

impl DescentOptimizer {
    /// SGD with TorchDR's momentum.
    pub const SGD: DescentOptimizer = DescentOptimizer::Sgd { momentum: None };
    /// Adam with its usual constants.
    pub const ADAM: DescentOptimizer = DescentOptimizer::Adam(Adam::USUAL);
    /// Riemannian Adam with the same constants.
    pub const RIEMANNIAN_ADAM: DescentOptimizer = DescentOptimizer::RiemannianAdam(Adam::USUAL);

    /// Returns the name.
    pub fn name(&self) -> &'static str {
        match self {
            DescentOptimizer::Sgd { .. } => "sgd",
            DescentOptimizer::Adam(_) => "adam",
            DescentOptimizer::RiemannianAdam(_) => "riemannian-adam",
        }
    }

    /// Returns the initial state for n rows of `width` numbers.
    pub(super) fn begin(&self, n: usize, width: usize) -> OptimizerMoments {
        match self {
            DescentOptimizer::Sgd { .. } => OptimizerMoments::new(n * width, 0),
            DescentOptimizer::Adam(_) => OptimizerMoments::new(n * width, n * width),
            DescentOptimizer::RiemannianAdam(_) => OptimizerMoments::new(n * width, n),
        }
    }

    /// Returns how many numbers of state a row of `width` numbers has.
    pub(super) fn numbers(&self, width: usize) -> usize {
        match self {
            DescentOptimizer::Sgd { .. } => width,
            DescentOptimizer::Adam(_) => 2 * width,
            DescentOptimizer::RiemannianAdam(_) => width + 1,
        }
    }

    /// Performs one step on rows of `width` numbers.
    pub(super) fn step(
        &self,
        lr: f64,
        exaggerated: bool,
        width: usize,
        x: &mut [f64],
        g: &[f64],
        m: &mut OptimizerMoments,
    ) {
        match self {
            DescentOptimizer::Sgd { momentum } => {
                m.steps += 1;
                let momentum = momentum.unwrap_or(if exaggerated { 0.5 } else { 0.8 });
                for ((x, g), v) in x.iter_mut().zip(g).zip(&mut m.first) {
                    *v = momentum * *v + g;
                    *x -= lr * *v;
                }
            }
            DescentOptimizer::Adam(adam) => adam.step(lr, x, g, m),
            DescentOptimizer::RiemannianAdam(adam) => adam.riemannian(lr, width, x, g, m),
        }
    }
}

/// The constants of Adam.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Adam {
    /// Decay rate of the first moment. Default 0.9.
    pub beta1: f64,
    /// Decay rate of the second moment. Default 0.999.
    pub beta2: f64,
    /// Added to the square root of the second moment. Default 10⁻⁸.
    pub eps: f64,
}

/// The state of an optimizer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OptimizerMoments {
    /// The steps taken.
    pub steps: u64,
    /// The velocity, or the mean of the gradient: one number for each coordinate.
    pub first: Vec<f64>,
    /// The mean of the squared gradient: one number for each coordinate, or one for each row in the
    /// ball.
    pub second: Vec<f64>,
}

impl OptimizerMoments {
    pub(super) fn new(first: usize, second: usize) -> Self {
        OptimizerMoments { steps: 0, first: vec![0.0; first], second: vec![0.0; second] }
    }
}

impl Default for Adam {
    fn default() -> Self {
        Adam::USUAL
    }
}

impl Adam {
    /// The constants of Adam's paper.
    pub const USUAL: Adam = Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

    /// Counts a step and returns the bias corrections of both moments.
    fn corrections(&self, moments: &mut OptimizerMoments) -> (f64, f64) {
        moments.steps += 1;
        // For more steps both corrections are 1 in f64.
        let steps = moments.steps.min(1 << 20) as i32;
        (1.0 - self.beta1.powi(steps), (1.0 - self.beta2.powi(steps)).sqrt())
    }

    pub(super) fn step(&self, lr: f64, x: &mut [f64], g: &[f64], m: &mut OptimizerMoments) {
        let (first, second) = self.corrections(m);
        for (((x, &g), mean), square) in x.iter_mut().zip(g).zip(&mut m.first).zip(&mut m.second) {
            *mean = self.beta1 * *mean + (1.0 - self.beta1) * g;
            *square = self.beta2 * *square + (1.0 - self.beta2) * (g * g);
            *x -= lr / first * (*mean / (square.sqrt() / second + self.eps));
        }
    }

    fn riemannian(&self, lr: f64, width: usize, x: &mut [f64], g: &[f64], m: &mut OptimizerMoments) {
        let (first, second) = self.corrections(m);
        let size = lr * second / first;
        let (mut own, mut step) = (vec![0.0; width], vec![0.0; width]);
        let rows = x.chunks_exact_mut(width).zip(g.chunks_exact(width));
        for ((x, g), (mean, square)) in rows.zip(m.first.chunks_exact_mut(width).zip(&mut m.second)) {
            let lambda = poincare::conformal(x);
            own.iter_mut().zip(g).for_each(|(own, g)| *own = g / (lambda * lambda));
            let length = poincare::dot(&own, &own);
            *square = self.beta2 * *square + (1.0 - self.beta2) * (lambda * lambda * length);
            let scale = -size / (square.sqrt() + self.eps);
            for ((mean, own), step) in mean.iter_mut().zip(&own).zip(&mut step) {
                *mean = self.beta1 * *mean + (1.0 - self.beta1) * own;
                *step = scale * *mean;
            }
            let old = x.to_vec();
            poincare::exp(&old, &step, x);
            poincare::project(x);
            poincare::transport(&old, x, mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descent_optimizer_minimizes_a_quadratic() {
        for (optimizer, lr) in [
            (DescentOptimizer::SGD, 0.05),
            (DescentOptimizer::Sgd { momentum: Some(0.0) }, 0.2),
            (DescentOptimizer::ADAM, 0.05),
            (DescentOptimizer::RIEMANNIAN_ADAM, 0.05),
        ] {
            let bottom = [0.3, -0.2, 0.1, 0.5];
            let mut x = vec![0.0, 0.1, -0.6, 0.2];
            let mut moments = optimizer.begin(2, 2);
            assert_eq!(moments.first.len() + moments.second.len(), 2 * optimizer.numbers(2));
            for t in 0..2000 {
                let gradient: Vec<f64> = x.iter().zip(&bottom).map(|(x, b)| x - b).collect();
                optimizer.step(lr * (1.0 - t as f64 / 2000.0), false, 2, &mut x, &gradient, &mut moments);
            }
            for (x, b) in x.iter().zip(&bottom) {
                assert!((x - b).abs() < 1e-3, "{}: {x} {b}", optimizer.name());
            }
            assert_eq!(moments.steps, 2000);
        }
    }

    #[test]
    fn the_first_step_of_adam_is_the_learning_rate() {
        let (mut x, mut moments) = (vec![1.0, 1.0], OptimizerMoments::new(2, 2));
        Adam::USUAL.step(0.1, &mut x, &[3.0, -1e-3], &mut moments);
        assert!((x[0] - 0.9).abs() < 1e-6 && (x[1] - 1.1).abs() < 1e-5, "{x:?}");
        // Also in the ball, where the step is a hyperbolic distance.
        let (mut x, mut moments) = (vec![0.4, 0.0], OptimizerMoments::new(2, 1));
        Adam::USUAL.riemannian(0.1, 2, &mut x, &[5.0, 0.0], &mut moments);
        assert!((poincare::distance(&[0.4, 0.0], &x) - 0.1).abs() < 1e-6, "{x:?}");
    }
}
