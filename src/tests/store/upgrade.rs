//! An upgrade: everything that a server of before wrote is there after it, as the types of today say it.

use std::collections::BTreeMap;

use lvmed::domain::evaluation::{ClassificationEvaluation, Evaluation};
use lvmed::domain::pretrain::Comparison;
use lvmed::domain::run::{Outcome, Replayed};
use lvmed::domain::{BackboneId, DatasetId, ModelId, RunId, Task, VersionId};
use lvmed::store::{MIGRATIONS, backbones, datasets, models, runs, versions};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::database::Scratch;

/// The last migration before tasks and outcomes.
const BEFORE: i64 = 8;
/// The rows that a server wrote into that schema, by
/// `pg_dump --data-only --column-inserts --no-owner --exclude-table=_sqlx_migrations`.
const ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/fixtures/schema-0008.sql");

/// Runs and backbones refer to each other, so that no order of the tables is right.
const APART: &str = "
    alter table runs drop constraint runs_backbone_id_fkey;
    alter table backbones drop constraint backbones_run_id_fkey,
        drop constraint backbones_parent_id_fkey;
";
const TOGETHER: &str = "
    alter table public.runs add constraint runs_backbone_id_fkey
        foreign key (backbone_id) references public.backbones (id);
    alter table public.backbones
        add constraint backbones_run_id_fkey foreign key (run_id) references public.runs (id),
        add constraint backbones_parent_id_fkey
            foreign key (parent_id) references public.backbones (id);
";

/// A run as the columns of before tell it.
#[derive(sqlx::FromRow)]
struct OldRun {
    id: Uuid,
    kind: String,
    status: String,
    evaluation: Option<Json<ClassificationEvaluation>>,
    replayed: Option<Json<Replayed>>,
    comparison: Option<Json<Comparison>>,
    model: Option<Uuid>,
    backbone: Option<Uuid>,
}

impl OldRun {
    /// The outcome that follows from it.
    fn outcome(&self) -> Option<Outcome> {
        if self.status != "succeeded" {
            return None;
        }
        match self.kind.as_str() {
            "finetune" => {
                let Json(evaluation) = self.evaluation.clone().expect("it was evaluated");
                let evaluation = Box::new(Evaluation::Classification(evaluation));
                Some(Outcome::Finetune { evaluation, model: self.model.map(ModelId) })
            }
            "pretrain" => Some(Outcome::Pretrain {
                backbone: self.backbone.map(BackboneId),
                comparison: self.comparison.clone().map(|Json(comparison)| comparison),
            }),
            "replay" => {
                let Json(replayed) = self.replayed.clone().expect("it found something");
                Some(Outcome::Replay { replayed })
            }
            other => panic!("{other} was no kind of run"),
        }
    }
}

/// The values that the columns of before tell.
struct Before {
    rows: BTreeMap<String, i64>,
    runs: Vec<OldRun>,
    models: Vec<(Uuid, Json<ClassificationEvaluation>, i64)>,
    backbones: Vec<(Uuid, Option<Json<Comparison>>)>,
    datasets: Vec<(Uuid,)>,
    versions: Vec<(Uuid, i64)>,
}

impl Before {
    async fn of(pool: &PgPool) -> Self {
        let runs = sqlx::query_as(
            "select r.id, r.kind, r.status::text as status, r.evaluation, r.replayed, b.comparison,
                 m.id as model, case when b.deleted_at is null then b.id end as backbone
             from runs r left join models m on m.run_id = r.id and m.deleted_at is null
                 left join backbones b on b.run_id = r.id",
        );
        let models = sqlx::query_as(
            "select m.id, m.evaluation,
                 (select count(*) from artifacts a where a.model_id = m.id)
             from models m where m.deleted_at is null",
        );
        let backbones =
            sqlx::query_as("select id, comparison from backbones where deleted_at is null");
        let datasets = sqlx::query_as("select id from datasets where deleted_at is null");
        let versions = sqlx::query_as(
            "select v.id, (select count(*) from version_images i where i.version_id = v.id)
             from dataset_versions v",
        );
        Self {
            rows: rows(pool).await,
            runs: runs.fetch_all(pool).await.expect("runs"),
            models: models.fetch_all(pool).await.expect("models"),
            backbones: backbones.fetch_all(pool).await.expect("backbones"),
            datasets: datasets.fetch_all(pool).await.expect("datasets"),
            versions: versions.fetch_all(pool).await.expect("versions"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_of_before_wrote_is_all_there_and_says_the_same() {
    let scratch = Scratch::as_of(BEFORE).await;
    let pool = &scratch.store.pool;
    load(&scratch.url).await;
    let before = Before::of(pool).await;

    MIGRATIONS.run(pool).await.expect("migrated");

    let after = rows(pool).await;
    for (table, counted) in &before.rows {
        assert_eq!(after.get(table), Some(counted), "rows of {table}");
    }
    for old in &before.runs {
        let run = runs::one(pool, RunId(old.id)).await.expect("it reads").expect("there");
        assert_eq!((run.spec.kind(), run.status.as_str()), (&*old.kind, &*old.status));
        assert_eq!(run.outcome, old.outcome(), "{} {}", old.kind, old.id);
    }
    for (id, Json(evaluation), artifacts) in before.models {
        let model = models::one(pool, ModelId(id)).await.expect("it reads").expect("there");
        assert_eq!(model.task, Task::Classification);
        assert_eq!(model.evaluation, Evaluation::Classification(evaluation));
        assert_eq!(model.artifacts.len() as i64, artifacts);
    }
    for (id, comparison) in before.backbones {
        let backbone = backbones::one(pool, BackboneId(id)).await.expect("it reads");
        let found = backbone.expect("there").origin.comparison;
        assert_eq!(found, comparison.map(|Json(comparison)| comparison), "{id}");
    }
    for (id,) in before.datasets {
        let dataset = datasets::one(pool, DatasetId(id)).await.expect("it reads").expect("there");
        assert_eq!(dataset.task, Task::Classification);
    }
    for (id, images) in before.versions {
        let version = versions::one(pool, VersionId(id)).await.expect("it reads").expect("there");
        assert_eq!(version.task, Task::Classification);
        let held = versions::images(pool, version.id, None).await.expect("they read");
        assert_eq!(held.len() as i64, images);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_before_have_something_of_every_kind() {
    let scratch = Scratch::as_of(BEFORE).await;
    load(&scratch.url).await;

    let before = Before::of(&scratch.store.pool).await;

    let ended = |kind: &str| {
        let succeeded = |run: &&OldRun| run.kind == kind && run.status == "succeeded";
        before.runs.iter().find(succeeded).expect("one has succeeded")
    };
    assert!(ended("finetune").model.is_some() && ended("finetune").evaluation.is_some());
    assert!(ended("pretrain").backbone.is_some() && ended("pretrain").comparison.is_some());
    assert!(ended("replay").replayed.is_some());
    assert!(before.runs.iter().any(|run| run.status == "failed"));
    assert!(before.models.iter().any(|(_, _, artifacts)| *artifacts > 0));
    assert!(before.versions.iter().any(|(_, images)| *images > 0));
    assert!(!before.datasets.is_empty() && before.backbones.len() > 1);
}

/// Loads what a server of before wrote.
async fn load(url: &str) {
    let written = std::fs::read_to_string(ROWS).expect("the rows of before");
    // Commands of psql, which `pg_dump` puts around the statements, are none of Postgres.
    let lines = written.lines().filter(|line| !line.starts_with('\\'));
    let written = lines.collect::<Vec<_>>().join("\n");
    // Its own connection: the file sets what the pool's must not have.
    let mut connection = PgConnection::connect(url).await.expect("Postgres answers");
    for statements in [APART.to_owned(), written, TOGETHER.to_owned()] {
        let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await;
        done.expect("the statements run");
    }
    connection.close().await.expect("the connection ends");
}

/// The number of rows of every table.
async fn rows(pool: &PgPool) -> BTreeMap<String, i64> {
    let tables = "select tablename from pg_tables
        where schemaname = 'public' and tablename <> '_sqlx_migrations'";
    let mut counted = BTreeMap::new();
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(pool).await.expect("tables");
    for table in tables {
        let count = AssertSqlSafe(format!("select count(*) from {table}"));
        let rows = sqlx::query_scalar(count).fetch_one(pool).await.expect("counted");
        counted.insert(table, rows);
    }
    counted
}
