//! Soft Dice and cross-entropy together, the usual loss of segmentation.

use candle_core::{D, Result, Tensor, bail};

use super::{CrossEntropy, column, rows};
use crate::nn::kernel::ops::softmax;

/// `w_d (1 − mean_c Dice_c) + w_e CE`, with `p` the softmax over classes, `g` 1 where a pixel is of
/// class `c` and 0 elsewhere, and sums over all pixels of the batch:
/// `Dice_c = (2 Σ p g + s) / (Σ p + Σ g + s)` (Milletari et al. 2016 with sums in place of squares).
#[derive(Debug, Clone, PartialEq)]
pub struct DiceAndCrossEntropy {
    /// `s`, in pixels: keeps the quotient of a class that a batch has none of at 1, so that finding
    /// none is not punished, and its gradient small.
    pub smooth: f64,
    /// The first class that counts in the Dice term: 1 leaves the background, class 0, out.
    pub first_class: usize,
    /// `w_d`
    pub dice_weight: f64,
    /// `w_e`
    pub cross_entropy_weight: f64,
    /// Settings of the cross-entropy.
    pub cross_entropy: CrossEntropy,
}

impl Default for DiceAndCrossEntropy {
    fn default() -> Self {
        Self {
            smooth: 1.0,
            first_class: 0,
            dice_weight: 1.0,
            cross_entropy_weight: 1.0,
            cross_entropy: CrossEntropy::default(),
        }
    }
}

impl DiceAndCrossEntropy {
    /// The loss of `logits` `[N, K, H, W]` against class indices `[N, H, W]`.
    pub fn of(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let classes = logits.dim(1)?;
        if self.first_class >= classes {
            bail!("no class is left of {classes} from class {} on", self.first_class);
        }
        let p = softmax(&rows(logits)?)?;
        let columns = column(targets, p.dim(0)?, classes)?;
        let ids = Tensor::arange(0, classes as u32, logits.device())?.unsqueeze(0)?;
        let g = columns.broadcast_eq(&ids)?.to_dtype(p.dtype())?;
        let shared = (&p * &g)?.sum(0)?;
        let sizes = (p.sum(0)? + g.sum(0)?)?;
        let dice = ((shared * 2.0)? + self.smooth)?.div(&(sizes + self.smooth)?)?;
        let counted = dice.narrow(0, self.first_class, classes - self.first_class)?;
        let missed = counted.mean(D::Minus1)?.affine(-self.dice_weight, self.dice_weight)?;
        missed + (self.cross_entropy.of(logits, targets)? * self.cross_entropy_weight)?
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::DiceAndCrossEntropy;

    /// Logits that say `class` of three for each of four pixels.
    fn sure_of(classes: [usize; 4]) -> Tensor {
        let value = |at: usize| if classes[at % 4] == at / 4 { 60.0 } else { -60.0 };
        Tensor::from_iter((0..12).map(value), &Device::Cpu)
            .and_then(|flat: Tensor| flat.to_dtype(DType::F64)?.reshape((1, 3, 2, 2)))
            .expect("logits")
    }

    #[test]
    fn overlap_is_counted_class_by_class() {
        let targets = Tensor::new(&[[[0_u32, 0], [1, 1]]], &Device::Cpu).expect("targets");
        let only_dice = |first_class| DiceAndCrossEntropy {
            cross_entropy_weight: 0.0,
            first_class,
            ..DiceAndCrossEntropy::default()
        };
        let loss = |first_class, logits: &Tensor| {
            let loss = only_dice(first_class).of(logits, &targets).expect("a loss");
            loss.to_scalar::<f64>().expect("a number")
        };

        assert!(loss(0, &sure_of([0, 0, 1, 1])).abs() < 1e-12);
        // One of two pixels of class 1 is called 0: Dice (4+1)/(5+1), (2+1)/(3+1), and 1 for class 2.
        let wrong = sure_of([0, 0, 1, 0]);
        let missed = 1.0 - (5.0 / 6.0 + 3.0 / 4.0 + 1.0) / 3.0;
        assert!((loss(0, &wrong) - missed).abs() < 1e-12);
        assert!((loss(1, &wrong) - (1.0 - f64::midpoint(3.0 / 4.0, 1.0))).abs() < 1e-12);
    }

    #[test]
    fn the_cross_entropy_is_added_and_huge_logits_stay_numbers() {
        let targets = Tensor::new(&[[[0_u32, 0], [1, 2]]], &Device::Cpu).expect("targets");
        let logits = (sure_of([0, 0, 1, 0]) * 100.0).expect("logits");

        let loss = DiceAndCrossEntropy::default().of(&logits, &targets).expect("a loss");

        // The last pixel is of class 2: its cross-entropy is the distance of the logits, 12 000.
        let dice = 1.0 - (5.0 / 6.0 + 1.0 + 1.0 / 2.0) / 3.0;
        let expected = dice + 12_000.0 / 4.0;
        assert!((loss.to_scalar::<f64>().expect("a number") - expected).abs() < 1e-9);
    }
}
