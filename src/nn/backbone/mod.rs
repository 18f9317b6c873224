//! Backbones: a folder for each family of architectures, and what all of them have in common.
//!
//! A family says what its architectures are ([`family::Family`]) and computes ([`network::Network`]); the
//! rest of the product asks [`architecture::Architecture`] and [`encoder::Encoder`].

pub mod architecture;
pub mod dinov2;
pub mod encoder;
pub mod family;
pub mod known;
pub mod network;
pub mod resnet;
pub mod sam_vit;

/// Gives `$with!` the module of every family.
macro_rules! each_family {
    ($with:ident) => {
        $with!(resnet, sam_vit, dinov2)
    };
}
pub(crate) use each_family;
