//! The problem that each failure is: what the caller may act on is told, the rest is for the log.

use axum::extract::multipart::{MultipartError, MultipartRejection};
use axum::extract::rejection::{JsonRejection, QueryRejection};

use super::problem::{Code, Problem};
use crate::decode::DecodeError;
use crate::domain::backbone::BadPreprocessing;
use crate::domain::forecast::TooLarge;
use crate::domain::name::BadName;
use crate::domain::pretrain::BatchTooLarge;
use crate::http::wire::body::bounds::cut_off;
use crate::inference::{InferenceError, ParityError};
use crate::nn::weights::WeightsError;
use crate::service::freeze::FreezeError;
use crate::service::import::ImportError;
use crate::service::intake::{IntakeError, kept_so_far};
use crate::service::predict::PredictError;
use crate::service::submit::SubmitError;
use crate::service::violation::Violation;
use crate::store::StoreError;

/// Postgres's `disk_full`.
const DISK_FULL: &str = "53100";

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(
                sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_),
            ) => Self::unavailable("the database", error),
            StoreError::Database(ref inner) if sql_state(inner).starts_with("57P") => {
                Self::unavailable("the database", error)
            }
            StoreError::Database(ref inner) if sql_state(inner) == DISK_FULL => full(),
            StoreError::Full => full(),
            StoreError::InUse { .. }
            | StoreError::NameTaken(_)
            | StoreError::LastAdmin
            | StoreError::KeyReused => Self::new(Code::Conflict, error.to_string()),
            StoreError::MissingBlob(_) | StoreError::DamagedBlob(_) => {
                Self::new(Code::Damaged, error.to_string())
            }
            StoreError::Gone(_) => Self::new(Code::NotFound, error.to_string()),
            StoreError::Database(_)
            | StoreError::Migration(_)
            | StoreError::Blobs(_)
            | StoreError::Io(_)
            | StoreError::LeaseLost
            | StoreError::CancelRequested => Self::internal(error),
        }
    }
}

fn full() -> Problem {
    let detail = "the disk is full; nothing more can be stored until room is made";
    Problem::new(Code::StorageFull, detail)
}

/// The code that Postgres gives the failure; class 57P is a server that stops or starts.
fn sql_state(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.unwrap_or_default().into_owned()
}

impl From<BadName> for Problem {
    fn from(error: BadName) -> Self {
        Self::wrong("/name", error.to_string())
    }
}

impl From<BatchTooLarge> for Problem {
    fn from(error: BatchTooLarge) -> Self {
        Self::wrong("/learning/batch_size", error.to_string())
    }
}

impl From<TooLarge> for Problem {
    fn from(error: TooLarge) -> Self {
        Self::wrong("/method", error.to_string())
    }
}

impl From<InferenceError> for Problem {
    fn from(error: InferenceError) -> Self {
        match error {
            InferenceError::Busy { .. } => Self::new(Code::Busy, error.to_string()),
            InferenceError::Timeout { .. } => Self::new(Code::Unavailable, error.to_string()),
            InferenceError::NoRuntime { .. }
            | InferenceError::BrokenRuntime { .. }
            | InferenceError::NoCuda(_)
            | InferenceError::BadNetwork(_)
            | InferenceError::WrongInput { .. }
            | InferenceError::Failed(_) => Self::internal(error),
        }
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Refused(_) | DecodeError::Breach(_) => {
                Self::new(Code::Invalid, format!("the file {error}"))
            }
            DecodeError::Stopped => Self::internal(error),
            DecodeError::Io(error) => StoreError::from(error).into(),
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Refused(_) | IntakeError::Breach(_) => {
                Self::new(Code::Invalid, error.to_string())
            }
            IntakeError::Decode(error) => error.into(),
            IntakeError::Store(error) => error.into(),
            IntakeError::BrokenOff { cause, images } => {
                Self::from(*cause).adding(kept_so_far(images))
            }
        }
    }
}

impl From<FreezeError> for Problem {
    fn from(error: FreezeError) -> Self {
        match error {
            FreezeError::TooManyClasses { .. }
            | FreezeError::PatientLeak { .. }
            | FreezeError::ClassWithoutTraining { .. }
            | FreezeError::TooFew(_) => Self::new(Code::Invalid, error.to_string()),
            FreezeError::BadShares(error) => {
                let at = |pointer| Violation::new(pointer, error.to_string());
                Self::invalid(vec![at("/validation"), at("/test")])
            }
            FreezeError::Store(error) => error.into(),
            FreezeError::Broken(error) => error.into(),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Recipe(errors) => Self::invalid(errors),
            SubmitError::TooLarge(error) => error.into(),
            SubmitError::BatchTooLarge(error) => error.into(),
            SubmitError::Unmeasured(error) => Self::unavailable("the estimate", error),
            SubmitError::IsReplay => {
                Self::wrong("/kind", "a run is replayed by POST /api/v1/runs/{id}/replay")
            }
            SubmitError::NotReplayable => Self::new(Code::Conflict, error.to_string()),
            SubmitError::QueueFull { .. } => Self::new(Code::Busy, error.to_string()),
            SubmitError::Store(error) => error.into(),
        }
    }
}

impl From<PredictError> for Problem {
    fn from(error: PredictError) -> Self {
        match error {
            PredictError::Unreadable(errors) => Self::invalid(errors),
            PredictError::Decode(error) => error.into(),
            PredictError::NoNetwork(_) => Self::new(Code::NotFound, error.to_string()),
            PredictError::Inference(error) => error.into(),
            PredictError::NotANumber { .. } => Self::new(Code::Damaged, error.to_string()),
            PredictError::Store(error) => error.into(),
            PredictError::OtherClasses { .. } | PredictError::Closed(_) => Self::internal(error),
            PredictError::Broken(error) => error.into(),
        }
    }
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Weights(WeightsError::Io { .. } | WeightsError::Tensor(_)) => {
                Self::internal(error)
            }
            ImportError::Weights(WeightsError::HasDepth { .. }) => {
                Self::wrong("/collapse_depth", error.to_string())
            }
            ImportError::Weights(ref weights @ WeightsError::Mismatch { .. }) => {
                let differences = weights.differences().into_iter();
                let errors = differences.map(|line| Violation::new("/file", line)).collect();
                Self::listing(error.to_string(), errors)
            }
            ImportError::Preprocessing(error @ BadPreprocessing::Size { .. }) => {
                Self::wrong("/size", error.to_string())
            }
            ImportError::Weights(
                WeightsError::NotACheckpoint
                | WeightsError::LegacyPickle
                | WeightsError::Unreadable(_)
                | WeightsError::UnknownArchitecture { .. }
                | WeightsError::NonFinite(_),
            )
            | ImportError::Breach(_)
            | ImportError::Preprocessing(BadPreprocessing::Moments)
            | ImportError::Text { .. }
            | ImportError::Parity(ParityError::Beyond { .. }) => {
                Self::new(Code::Invalid, error.to_string())
            }
            ImportError::Store(error) => error.into(),
            ImportError::Parity(ParityError::Inference(error)) => error.into(),
            ImportError::Parity(ParityError::Tensor(_) | ParityError::Io(_))
            | ImportError::Onnx(_)
            | ImportError::Failed(_) => Self::internal(error),
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::JsonDataError(_) => misfit(&rejection.body_text()),
            rejection => Self::new(Code::BadRequest, rejection.body_text()),
        }
    }
}

/// axum writes where the JSON does not fit in front of why: `…: full.epochs: invalid type …`. A field
/// that is missing or unknown is named in the reason.
fn misfit(text: &str) -> Problem {
    let text = text.rsplit_once("target type: ").map_or(text, |(_, why)| why);
    let (path, why) = match text.split_once(": ") {
        Some((path, why)) if !path.contains(' ') => (path, why),
        Some(_) | None => ("", text),
    };
    let named = ["missing field `", "unknown field `"].into_iter().find_map(|what| {
        let (name, _) = why.strip_prefix(what)?.split_once('`')?;
        Some(name)
    });
    let mut steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
    if let Some(name) = named
        && steps.last() != Some(&name)
    {
        steps.push(name);
    }
    let pointer: String = steps.iter().map(|step| format!("/{step}")).collect();
    Problem::wrong(pointer, text)
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Code::Invalid, rejection.body_text())
    }
}

impl From<MultipartRejection> for Problem {
    fn from(rejection: MultipartRejection) -> Self {
        Self::new(Code::BadRequest, rejection.body_text())
    }
}

impl From<MultipartError> for Problem {
    fn from(error: MultipartError) -> Self {
        let unreadable = || {
            let detail = format!("the multipart body cannot be read: {}", error.body_text());
            Self::new(Code::BadRequest, detail)
        };
        cut_off(&error).unwrap_or_else(unreadable)
    }
}

/// Work on a thread of its own did not come back.
impl From<tokio::task::JoinError> for Problem {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::misfit;
    use crate::domain::split::SplitError;
    use crate::http::wire::problem::{Code, Problem};
    use crate::service::freeze::FreezeError;
    use crate::service::intake::IntakeError;
    use crate::service::violation::Violation;

    #[test]
    fn json_that_does_not_fit_is_pointed_at() {
        let start = "Failed to deserialize the JSON body into the target type: ";

        let inner = misfit(&format!("{start}full.epochs: invalid type: string"));
        let whole = misfit(&format!("{start}missing field `name` at line 1 column 2"));

        assert_eq!(
            inner.errors(),
            [Violation::new("/full/epochs", "full.epochs: invalid type: string")]
        );
        assert_eq!(whole.errors()[0].pointer, "/name");
        let deep =
            misfit(&format!("{start}full: unknown field `epohcs`, expected one of `epochs`"));
        assert_eq!(deep.errors()[0].pointer, "/full/epohcs");
        assert_eq!(misfit(&format!("{start}invalid type: null")).errors()[0].pointer, "");
    }

    #[test]
    fn an_upload_that_broke_off_tells_why_and_what_was_kept() {
        let cause = Box::new(IntakeError::Refused("the archive was cut short".to_owned()));

        let problem = Problem::from(IntakeError::BrokenOff { cause, images: 3 });

        assert_eq!(problem.code(), Code::Invalid);
        let kept = "the archive was cut short. 3 images of this upload were kept";
        assert_eq!(problem.detail(), kept);
    }

    #[test]
    fn shares_that_are_not_possible_are_pointed_at_both() {
        let shares = SplitError::BadShares { validation: 0.6, test: 0.6 };

        let problem = Problem::from(FreezeError::BadShares(shares));

        let pointers: Vec<&str> =
            problem.errors().iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/validation", "/test"]);
    }
}
