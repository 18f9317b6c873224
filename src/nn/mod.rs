//! Differentiable layers, networks, optimisers and weights on candle.
