//! The numbers that attention is computed from.

/// The numbers that the heads of all windows are computed from.
#[derive(Clone, Copy)]
pub(in crate::nn) struct Inputs<'a, T> {
    /// Queries, keys and values of each token, heads side by side in each: `[tokens, 3 D]`.
    pub(in crate::nn) qkv: &'a [T],
    /// Those of the tokens that fill up windows at the border: `[3 D]`.
    pub(in crate::nn) padding: &'a [T],
    /// Positions down and across, from furthest before to furthest after:
    /// `[2 window height − 1, D / heads]` and `[2 window width − 1, D / heads]`.
    pub(in crate::nn) positions: (&'a [T], &'a [T]),
}
