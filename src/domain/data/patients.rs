//! Patients by the first of their images: names that are the same on every machine.
//!
//! A patient's key depends on the server's secret, and so does an order by keys. Images are listed in an
//! order that their content alone decides; the place of a patient's first image there is as good a key,
//! and one seed draws the same patients everywhere.

use std::collections::HashMap;

/// Each patient as the place of its first image, in the order of the images.
pub fn by_first_image<'a>(patients: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut first = HashMap::new();
    let place = |(at, key)| format!("{:010}", first.entry(key).or_insert(at));
    patients.enumerate().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::by_first_image;

    #[test]
    fn patients_are_named_by_their_first_image_whatever_their_key() {
        let named = |keys: [&str; 4]| by_first_image(keys.into_iter());

        assert_eq!(named(["z", "a", "z", "b"]), named(["1", "2", "1", "0"]));
        assert_eq!(named(["z", "a", "z", "b"])[2], "0000000000");
    }
}
