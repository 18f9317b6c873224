//! The things that all routes share: what they are given, how they answer and fail, and the
//! connections below.

pub mod answer;
pub mod body;
pub mod caller;
pub mod causes;
pub mod documented;
pub mod events;
pub mod extract;
pub mod layers;
pub mod listen;
pub mod observe;
pub mod problem;
pub mod request_id;
pub mod standing;
pub mod underway;
