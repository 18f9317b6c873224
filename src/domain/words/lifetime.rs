//! For how long an API key is valid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Days from now until an API key ends by itself: 1 to 3,650.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "u32")]
#[schema(value_type = u16, minimum = 1, maximum = 3650, example = 90)]
pub struct Lifetime(u16);

impl Lifetime {
    /// The most days.
    pub const MOST: u16 = 3650;

    /// The number of days.
    pub fn days(self) -> u16 {
        self.0
    }
}

/// A number of days that no key is valid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct NoLifetime;

impl fmt::Display for NoLifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key is valid for 1 to {} days, or until it is revoked", Lifetime::MOST)
    }
}

impl TryFrom<u32> for Lifetime {
    type Error = NoLifetime;

    fn try_from(days: u32) -> Result<Self, NoLifetime> {
        let days = u16::try_from(days).map_err(|_| NoLifetime)?;
        if (1..=Self::MOST).contains(&days) { Ok(Self(days)) } else { Err(NoLifetime) }
    }
}

impl FromStr for Lifetime {
    type Err = NoLifetime;

    fn from_str(text: &str) -> Result<Self, NoLifetime> {
        text.parse::<u32>().map_err(|_| NoLifetime)?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::Lifetime;

    #[test]
    fn a_key_is_valid_for_a_day_to_ten_years() {
        let days = |text: &str| text.parse::<Lifetime>().map(Lifetime::days).ok();

        assert_eq!(["1", "90", "3650"].map(days), [Some(1), Some(90), Some(3650)]);
        assert_eq!(["0", "3651", "70000", "-1", "1.5", "", "soon"].map(days), [None; 7]);
    }
}
