//! The first place of a network where a number is not finite.

use candle_core::{DType, Tensor};

use super::error::TrainingError;
use crate::domain::Architecture;
use crate::nn::{Encoder, Mode, Params};

/// Names the first place whose numbers are not finite when `entered` has been computed to something
/// that is not: the first such trained parameter, else the input, else the first stage with such an
/// output where the whole `network` is given; nothing when all of these are finite.
pub(in crate::training) fn first_non_finite(
    params: &Params,
    network: Option<(Architecture, &Encoder)>,
    entered: &Tensor,
) -> Result<Option<String>, TrainingError> {
    for (name, variable) in params.trainable() {
        if !is_finite(variable.as_tensor())? {
            return Ok(Some(name.to_owned()));
        }
    }
    if !is_finite(entered)? {
        return Ok(Some("the input".to_owned()));
    }
    let Some((architecture, network)) = network else { return Ok(None) };
    for left in (0..=architecture.stages()).rev() {
        let x = network.trunk(entered, left, Mode::Frozen)?;
        if !is_finite(&x)? {
            return Ok(Some(stage_before(architecture, params, left)));
        }
    }
    Ok(None)
}

/// The stage whose output enters the last `left` ones.
fn stage_before(architecture: Architecture, params: &Params, left: usize) -> String {
    let mut names = params.iter().map(|(name, _)| name);
    let first = names.find(|name| {
        architecture.is_in_tail(name, left + 1) && !architecture.is_in_tail(name, left)
    });
    first.map_or_else(|| "the first layers".to_owned(), str::to_owned)
}

/// Whether all values are numbers.
pub(in crate::training) fn is_finite(tensor: &Tensor) -> Result<bool, TrainingError> {
    // Zero times a number is zero; times anything else it is not a number.
    let sum = (tensor.detach() * 0.0)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    Ok(sum == 0.0)
}
