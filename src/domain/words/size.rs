//! A number of bytes as people read it.

use std::fmt;

/// A number of bytes, shown in the unit that leaves few digits: `1 GiB`, `1.5 MiB`, `740 bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let Some((unit, name)) = units.into_iter().find(|(unit, _)| self.0 >= *unit) else {
            return write!(f, "{} bytes", self.0);
        };
        let tenths = (self.0 as f64 / unit as f64 * 10.0).round() / 10.0;
        write!(f, "{tenths} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_take_the_largest_unit_that_fits() {
        let shown = [740, 1 << 10, 3 << 19, 1 << 30, 21_474_836_480].map(|n| Size(n).to_string());

        assert_eq!(shown, ["740 bytes", "1 KiB", "1.5 MiB", "1 GiB", "20 GiB"]);
    }
}
