//! The number of steps that a recipe makes of so many images, and whether they are enough.

use super::{Finetune, Method};
use crate::domain::training::Training;
use crate::domain::words::counted::counted;

/// Steps below which training hardly moves the weights of a network, at the rates that suit one.
pub const FEW_STEPS: u64 = 50;
/// Steps that `last` takes at least, on activations that are kept: they cost little.
const LEAST_STEPS: u64 = 100;
/// Steps without a better validation that are borne at least, where an epoch is a step or two.
pub const LEAST_PATIENCE: u64 = 20;

impl Finetune {
    /// Passes over so many training images: as asked, and for `last` on a frozen part that is computed once
    /// an image at least so many that the head can settle. Without images to be validated by nothing would
    /// tell when it has learnt by heart, and it stays with what is asked.
    pub fn epochs(&self, images: u64, is_validated: bool) -> u32 {
        let Training { epochs, batch_size, .. } = self.training;
        let keeps = self.method == Method::Last && !self.training.varies();
        if !keeps || !is_validated || self.head.is_none() {
            return epochs;
        }
        let steps = images.div_ceil(u64::from(batch_size)).max(1);
        let least = u32::try_from(LEAST_STEPS.div_ceil(steps)).unwrap_or(epochs);
        epochs.max(least)
    }

    /// The reason why training on so many images can hardly change the network, where it can not: too
    /// few steps.
    pub fn too_few_steps(&self, images: u64, is_validated: bool) -> Option<String> {
        let (epochs, batch_size) = (self.epochs(images, is_validated), self.training.batch_size);
        let steps = u64::from(epochs) * images.div_ceil(u64::from(batch_size)).max(1);
        let method = match self.method {
            Method::Probe => return None,
            Method::Last | Method::Lora | Method::Full => self.method.as_str(),
        };
        (steps < FEW_STEPS).then(|| {
            format!(
                "{} and {} epochs make {}: this recipe hardly moves the weights. The method probe does \
                 as well in seconds; {method} takes at least {} epochs of so few images",
                counted(images, "training image", "training images"),
                epochs,
                counted(steps, "step", "steps"),
                FEW_STEPS.div_ceil(images.div_ceil(u64::from(batch_size)).max(1)),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::HeadRule;
    use crate::domain::run::{Finetune, Method, Spec};

    #[test]
    fn a_recipe_that_cannot_move_the_weights_is_told_and_repeats_that_repeat_nothing_are_refused() {
        let spec = r#"{"kind": "finetune", "dataset_version": "01890000-0000-7000-8000-000000000001",
            "backbone": "01890000-0000-7000-8000-000000000002", "method": "full", "repeats": 5}"#;
        let spec: Spec = serde_json::from_str(spec).expect("it reads");
        let mut recipe = spec.recipe().expect("a recipe").clone();

        let told = recipe.too_few_steps(10, true).expect("told");
        assert!(
            told.contains("20 steps") && told.contains("probe") && told.contains("50 epochs"),
            "{told}"
        );
        assert_eq!(recipe.too_few_steps(48, true), None);
        assert!(
            recipe.too_few_steps(20, true).is_some_and(|told| told.contains("at least 25 epochs"))
        );
        assert_eq!(recipe.validate(), []);
        recipe.method = Method::Last;
        recipe.training.fill_in(Method::Last);
        let epochs = |recipe: &Finetune| (recipe.epochs(10, true), recipe.epochs(160, true));
        assert_eq!(epochs(&recipe), (20, 20), "no head, the rule of its time");
        recipe.head = Some(HeadRule::Auto);
        assert_eq!((epochs(&recipe), recipe.epochs(10, false)), ((100, 20), 20));
        assert_eq!(recipe.too_few_steps(10, true), None);
        recipe.method = Method::Probe;
        assert_eq!(recipe.too_few_steps(10, true), None);
        assert_eq!(recipe.validate().len(), 1);
        recipe.shots = Some(5);
        assert_eq!(recipe.validate(), []);
    }
}
