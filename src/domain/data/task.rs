//! The tasks that a model can learn of a dataset's images.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::words::word::UnknownWord;

/// The task of a dataset, of what is frozen of it and of the models that learn from that. Others follow
/// as variants.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One class for the whole image.
    #[default]
    Classification,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 1] = [Self::Classification];

    /// The word used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classification => "classification",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Task {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|task| task.as_str() == text)
            .ok_or_else(|| UnknownWord::new("task", text))
    }
}

#[cfg(test)]
mod tests {
    use super::Task;

    #[test]
    fn the_word_of_a_task_is_the_same_in_json_and_in_sql() {
        for task in Task::ALL {
            assert_eq!(serde_json::to_value(task).expect("a word"), task.as_str());
            assert_eq!(task.as_str().parse::<Task>().expect("a task"), task);
        }
        assert!("segmentation".parse::<Task>().is_err());
    }
}
