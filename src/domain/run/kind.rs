//! The kinds of runs as words.

/// The kind of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Few-shot fine-tuning.
    Finetune,
    /// Self-supervised pretraining.
    Pretrain,
    /// A comparison of a finished run with what it does now.
    Replay,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Finetune, Self::Pretrain, Self::Replay];

    /// The word used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finetune => "finetune",
            Self::Pretrain => "pretrain",
            Self::Replay => "replay",
        }
    }

    /// Whether it is asked for by a recipe; a replay is asked for by the run that is replayed.
    pub fn is_asked_for(self) -> bool {
        match self {
            Self::Finetune | Self::Pretrain => true,
            Self::Replay => false,
        }
    }
}
