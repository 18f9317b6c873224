//! A wish to stop that meets another change of the run: whichever comes first, it is not lost.

use std::time::Duration;

use lvmed::domain::run::Status;
use lvmed::store::queue::{self, Beat, Claimed, Ending};
use lvmed::store::{StoreError, models, runs};
use sqlx::{Postgres, Transaction};

use super::{LONG, Lab};

/// The statement that hands a run back, as another worker's connection does it.
const HAND_BACK: &str = "update runs set status = 'queued', lease_owner = null, lease_until = null,
     attempt = attempt - 1 where id = $1";
/// The statement that takes a run, as another worker's connection does it.
const TAKE: &str = "update runs set status = 'running', attempt = 1, lease_owner = id,
     lease_until = now() + interval '1 hour' where id = $1";
/// The statement that asks a running run to stop, as another connection does it.
const ASK: &str = "update runs set cancel_requested_at = now() where id = $1";

impl Lab {
    /// Changes a run in a transaction that is still open: whoever else wants to change it waits.
    async fn changing(
        &self,
        run: lvmed::domain::RunId,
        statement: &'static str,
    ) -> Transaction<'static, Postgres> {
        let mut transaction = self.pool().begin().await.expect("it begins");
        sqlx::query(statement).bind(run.0).execute(&mut *transaction).await.expect("changed");
        transaction
    }

    /// Waits until somebody else waits for the change.
    async fn is_waited_for(&self) {
        let waiting = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        for _ in 0..500 {
            let count: i64 =
                sqlx::query_scalar(waiting).fetch_one(self.pool()).await.expect("answered");
            if count > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody waits");
    }

    /// Ends the attempt while `change` is open, which is committed once the end waits for it.
    async fn end_during(
        &self,
        run: &Claimed,
        change: Transaction<'static, Postgres>,
        ending: &Ending,
    ) -> Result<(), StoreError> {
        let ended = queue::end(self.pool(), run, ending);
        let (ended, ()) = tokio::join!(ended, async {
            self.is_waited_for().await;
            change.commit().await.expect("committed");
        });
        ended
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_handed_back_at_the_moment_it_is_cancelled_is_cancelled() {
    let lab = Lab::new().await;
    let run = lab.running().await;
    let handing_back = lab.changing(run.id, HAND_BACK).await;

    let (cancelled, ()) = tokio::join!(runs::cancel(lab.pool(), run.id), async {
        lab.is_waited_for().await;
        handing_back.commit().await.expect("committed");
    });

    let cancelled = cancelled.expect("answered").expect("there");
    assert_eq!((cancelled.status, cancelled.cancel_requested), (Status::Cancelled, true));
    assert!(lab.take(LONG).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_taken_at_the_moment_it_is_cancelled_is_asked_to_stop() {
    let lab = Lab::new().await;
    let run = lab.queue().await;
    let taking = lab.changing(run.id, TAKE).await;

    let (asked, ()) = tokio::join!(runs::cancel(lab.pool(), run.id), async {
        lab.is_waited_for().await;
        taking.commit().await.expect("committed");
    });

    let asked = asked.expect("answered").expect("there");
    assert_eq!((asked.status, asked.cancel_requested), (Status::Running, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ends_at_the_moment_it_is_asked_to_stop_is_not_tried_again() {
    let lab = Lab::new().await;
    for ending in [Ending::HandedBack, Ending::Stumbled("the disk is full".to_owned())] {
        let run = lab.running().await;
        let asking = lab.changing(run.id, ASK).await;

        lab.end_during(&run, asking, &ending).await.expect("ended");

        assert_eq!(lab.run(&run).await.status, Status::Cancelled, "{ending:?}");
        assert!(lab.take(LONG).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_of_a_run_that_was_asked_to_stop() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let run = lab.running().await;
    let asking = lab.changing(run.id, ASK).await;

    let publication = lab.publication("too late");
    let (published, ()) = tokio::join!(models::publish(pool, &run, &publication), async {
        lab.is_waited_for().await;
        asking.commit().await.expect("committed");
    });

    assert!(matches!(published, Err(StoreError::CancelRequested)), "{published:?}");
    assert!(models::list(pool).await.expect("answered").is_empty());
    assert_eq!(queue::beat(pool, &run, LONG).await.expect("answered"), Beat::Cancel);
    queue::end(pool, &run, &Ending::Cancelled).await.expect("ended");
    assert_eq!(lab.run(&run).await.status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn among_workers_that_take_and_hand_back_no_cancel_is_lost() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let mut wanted = Vec::new();
    for _ in 0..40 {
        wanted.push(lab.queue().await.id);
    }
    // Workers that take what is due and hand it back at once, until nothing is due any more.
    let workers = (0..4).map(|_| async {
        while let Some(run) = lab.take(LONG).await {
            queue::end(pool, &run, &Ending::HandedBack).await.expect("ended");
        }
    });
    let cancels = async {
        for run in &wanted {
            runs::cancel(pool, *run).await.expect("answered");
        }
    };

    let all = futures_util::future::join(futures_util::future::join_all(workers), cancels);
    tokio::time::timeout(Duration::from_mins(1), all).await.expect("every run is cancelled");

    for run in wanted {
        let run = runs::one(pool, run).await.expect("answered").expect("there");
        assert_eq!(run.status, Status::Cancelled);
    }
}
