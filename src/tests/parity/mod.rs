//! Layers and whole networks against PyTorch: numbers that `scripts/torch_fixtures.py` wrote down.

mod dinov2;
mod draw;
mod fixture;
mod layers;
mod networks;
mod objectives;
