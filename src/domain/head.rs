//! Linear heads: how the classifier on frozen features is fitted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The rule by which a linear head is fitted to frozen features. Whatever the rule, what comes out are
/// weights and biases: `logits = W f + b`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum HeadRule {
    /// The mean of a logistic regression and of two discriminants, which is hardly ever worse than the
    /// best of them and needs no validation images to choose.
    #[default]
    Auto,
    /// Multinomial logistic regression with a quadratic penalty.
    Logistic,
    /// Linear discriminant analysis with a shrunken covariance: steady with very few images.
    Lda,
}

impl HeadRule {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Logistic => "logistic",
            Self::Lda => "lda",
        }
    }
}

impl fmt::Display for HeadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
