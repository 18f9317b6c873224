//! Fine-tuning, evaluation and publishing, as plain synchronous code.
