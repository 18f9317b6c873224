//! The remedies for classes of unequal size, and mixup.

use serde::{Deserialize, Serialize};

use super::augmentation::Violation;

/// What is done about classes of unequal size.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Imbalance {
    /// Nothing: an epoch shows every image once, and every image counts the same.
    #[default]
    None,
    /// The loss of an image counts by the inverse frequency of its class.
    ClassWeights,
    /// An epoch shows as many images as there are, of every class equally many: not every image of a
    /// large class, some of a small class more than once.
    BalancedSampling,
    /// An epoch shows every image, and those of smaller classes again until each class is as large
    /// as the largest.
    Oversampling,
}

impl Imbalance {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClassWeights => "class_weights",
            Self::BalancedSampling => "balanced_sampling",
            Self::Oversampling => "oversampling",
        }
    }
}

/// Training on mixtures of two images and of their labels (Zhang et al., 2018, "mixup: beyond
/// empirical risk minimization").
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mixup {
    /// The share of an image is drawn from Beta(alpha, alpha): near 0 or 1 for a small alpha, near one
    /// half for a large one. The paper uses 0.2 to 0.4.
    #[schema(minimum = 0.05, maximum = 10.0)]
    pub alpha: f64,
}

impl Mixup {
    /// Checks the range.
    pub fn validate(&self) -> Vec<Violation> {
        let (low, high) = (0.05, 10.0);
        if (low..=high).contains(&self.alpha) {
            return Vec::new();
        }
        vec![Violation { pointer: "/alpha", value: self.alpha, low, high }]
    }
}

#[cfg(test)]
mod tests {
    use super::{Imbalance, Mixup};

    #[test]
    fn words_in_json_are_those_of_the_type() {
        for word in ["none", "class_weights", "balanced_sampling", "oversampling"] {
            let read: Imbalance = serde_json::from_value(word.into()).expect("a known word");
            assert_eq!(read.as_str(), word);
        }
    }

    #[test]
    fn a_mixture_needs_a_shape_within_its_range() {
        assert_eq!(Mixup { alpha: 0.2 }.validate(), []);
        assert_eq!(Mixup { alpha: 0.0 }.validate()[0].pointer, "/alpha");
        assert_eq!(Mixup { alpha: f64::NAN }.validate().len(), 1);
    }
}
