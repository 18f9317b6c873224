//! The lease queue and the rows of runs: who holds what, and who may no longer speak for it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use lvmed::domain::run::{EventBody, Outcome, Progress, Status};
use lvmed::domain::{KeyId, Role, RunId, Sha256, WorkerId};
use lvmed::store::queue::{self, Beat, Claimed, Ending};
use lvmed::store::runs::Once;
use lvmed::store::{StoreError, checkpoints, events, keys, models, runs};

use super::{LONG, Lab, name};

/// A lease that has ended by the next statement.
const GONE: Duration = Duration::ZERO;

fn log() -> EventBody {
    EventBody::Log { message: "a line".to_owned() }
}

impl Lab {
    /// The statuses that the run's events tell of, in order.
    async fn told(&self, run: RunId) -> Vec<Status> {
        let events = events::since(self.pool(), run, 0, 100).await.expect("the database answers");
        let status = |body| match body {
            EventBody::Status { status, .. } => Some(status),
            EventBody::Progress { .. } | EventBody::Metric { .. } | EventBody::Log { .. } => None,
        };
        events.into_iter().filter_map(|event| status(event.body)).collect()
    }

    /// Ends the pause before the next attempt.
    async fn skip_pause(&self) {
        sqlx::query("update runs set run_after = now()").execute(self.pool()).await.expect("done");
    }

    /// Insists that `run` is no longer the worker's: whatever it says changes nothing.
    async fn may_not_speak(&self, run: &Claimed) {
        let (pool, store) = (self.pool(), &self.scratch.store);
        let before = self.run(run).await;
        let told = events::since(pool, run.id, 0, 100).await.expect("events");

        let progress = Progress { stage: "stale".to_owned(), ..Progress::default() };
        assert!(!queue::report(pool, run, &progress).await.expect("answered"));
        assert!(!queue::tell(pool, run, &log()).await.expect("answered"));
        let stale = Bytes::from(format!("stale {}", run.attempt));
        assert!(!checkpoints::put(store, run, stale).await.expect("answered"));
        assert_eq!(queue::beat(pool, run, LONG).await.expect("answered"), Beat::Lost);
        for ending in [
            Ending::Failed("stale".to_owned()),
            Ending::Stumbled("stale".to_owned()),
            Ending::Cancelled,
            Ending::HandedBack,
        ] {
            let ended = queue::end(pool, run, &ending).await;
            assert!(matches!(ended, Err(StoreError::LeaseLost)), "{ended:?}");
        }
        let published = models::publish(pool, run, &self.publication("stale")).await;
        assert!(matches!(published, Err(StoreError::LeaseLost)), "{published:?}");

        assert_eq!(self.run(run).await, before);
        assert_eq!(events::since(pool, run.id, 0, 100).await.expect("events"), told);
        assert!(models::list(pool).await.expect("models").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_ask_at_once_never_hold_one_run() {
    let lab = Lab::new().await;
    let mut queued = BTreeSet::new();
    for _ in 0..12 {
        queued.insert(lab.queue().await.id);
    }

    let workers = (0..6).map(|_| async {
        let mut own = Vec::new();
        while let Some(claimed) = lab.take(LONG).await {
            own.push(claimed.id);
        }
        own
    });
    let taken = futures_util::future::join_all(workers).await.concat();

    assert_eq!(taken.len(), 12);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_the_oldest_run_and_the_others_move_up() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let (first, second) = (lab.queue().await, lab.queue().await);
    assert_eq!((first.queue_position, second.queue_position), (Some(0), Some(1)));
    assert_eq!(runs::queued(pool).await.expect("answered"), 2);
    assert_eq!((first.started_at, first.provenance.threads), (None, None));

    let claimed = lab.take(LONG).await.expect("a run is due");

    assert_eq!((claimed.id, claimed.attempt, claimed.max_attempts), (first.id, 1, 3));
    assert_eq!(claimed.spec, first.spec);
    let running = lab.run(&claimed).await;
    assert_eq!((running.status, running.queue_position), (Status::Running, None));
    assert_eq!(running.provenance.threads, Some(2));
    assert_eq!(running.progress.stage, "preparing");
    assert!(running.started_at.is_some());
    let second = runs::one(pool, second.id).await.expect("answered").expect("there");
    assert_eq!(second.queue_position, Some(0));
    assert_eq!(lab.told(first.id).await, [Status::Queued, Status::Running]);
    let progress = Progress { stage: "fitting".to_owned(), done: 3, ..Progress::default() };
    assert!(queue::report(pool, &claimed, &progress).await.expect("answered"));
    assert_eq!(lab.run(&claimed).await.progress, progress);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_worker_loses_its_run_and_cannot_finish_it() {
    let lab = Lab::new().await;
    let run = lab.queue().await;
    let silent = lab.take(GONE).await.expect("a run is due");

    let heir = lab.take(LONG).await.expect("the run is due again");

    assert_eq!((heir.id, heir.attempt), (run.id, 2));
    lab.may_not_speak(&silent).await;
    assert_eq!(queue::beat(lab.pool(), &heir, LONG).await.expect("answered"), Beat::Continue);
    assert!(lab.take(LONG).await.is_none());
    let model = models::publish(lab.pool(), &heir, &lab.publication("heir")).await.expect("done");
    let outcome = lab.run(&heir).await.outcome;
    assert!(
        matches!(&outcome, Some(Outcome::Finetune { model: Some(found), .. }) if *found == model),
        "{outcome:?}"
    );
    let stale = models::publish(lab.pool(), &silent, &lab.publication("late")).await;
    assert!(matches!(stale, Err(StoreError::LeaseLost)), "{stale:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_a_queued_run_at_once_and_a_running_one_after_its_next_beat() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let running = lab.running().await;
    let queued = lab.queue().await;

    let ended = runs::cancel(pool, queued.id).await.expect("answered").expect("there");
    let asked = runs::cancel(pool, running.id).await.expect("answered").expect("there");

    assert_eq!((ended.status, ended.cancel_requested), (Status::Cancelled, true));
    assert!(ended.finished_at.is_some());
    assert_eq!((asked.status, asked.cancel_requested), (Status::Running, true));
    assert_eq!(queue::beat(pool, &running, LONG).await.expect("answered"), Beat::Cancel);
    queue::end(pool, &running, &Ending::Cancelled).await.expect("ended");
    assert_eq!(lab.run(&running).await.status, Status::Cancelled);
    let told = [Status::Queued, Status::Running, Status::Cancelled];
    assert_eq!(lab.told(running.id).await, told);
    runs::cancel(pool, running.id).await.expect("asking again is no error");
    assert_eq!(lab.told(running.id).await, told);
    assert!(runs::cancel(pool, RunId::new()).await.expect("answered").is_none());
    assert!(lab.take(LONG).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_asked_to_stop_is_cancelled_when_its_worker_leaves_or_stumbles() {
    let lab = Lab::new().await;
    let pool = lab.pool();

    for ending in [Ending::HandedBack, Ending::Stumbled("the disk is full".to_owned())] {
        let run = lab.running().await;
        runs::cancel(pool, run.id).await.expect("answered");
        queue::end(pool, &run, &ending).await.expect("ended");

        // Queued again, it would wait for ever: nobody takes a run that shall stop.
        let found = lab.run(&run).await;
        assert_eq!(found.status, Status::Cancelled, "{ending:?}");
        assert!(found.finished_at.is_some());
        let told = [Status::Queued, Status::Running, Status::Cancelled];
        assert_eq!(lab.told(run.id).await, told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reaper_ends_silent_runs_out_of_attempts_or_asked_to_stop_and_no_others() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let hopeless = lab.queue().await.id;
    for attempt in 1..=3 {
        assert_eq!(lab.take(GONE).await.map(|run| run.attempt), Some(attempt));
    }
    assert!(lab.take(GONE).await.is_none(), "a fourth attempt");
    let healthy = lab.running().await;
    lab.queue().await;
    let unwanted = lab.take(GONE).await.expect("a run is due");
    runs::cancel(pool, unwanted.id).await.expect("answered");
    lab.queue().await;
    let silent = lab.take(GONE).await.expect("a run is due, and none that shall stop");

    assert_eq!(queue::reap(pool).await.expect("answered"), 2);

    let failed = runs::one(pool, hopeless).await.expect("answered").expect("there");
    assert_eq!(failed.status, Status::Failed);
    assert!(failed.error.is_some_and(|error| error.contains("3 attempts")));
    assert_eq!(lab.run(&unwanted).await.status, Status::Cancelled);
    assert_eq!(lab.run(&unwanted).await.error, None);
    assert_eq!(lab.told(unwanted.id).await.last(), Some(&Status::Cancelled));
    for spared in [healthy, silent] {
        assert_eq!(lab.run(&spared).await.status, Status::Running);
    }
    assert_eq!(queue::reap(pool).await.expect("answered"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stumbling_run_is_tried_again_after_a_pause_and_fails_in_the_end() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let mut run = lab.running().await;
    let stumble = Ending::Stumbled("the disk is full".to_owned());
    for attempt in 2..=3 {
        queue::end(pool, &run, &stumble).await.expect("ended");
        let waiting = lab.run(&run).await;
        assert_eq!(waiting.status, Status::Queued);
        assert_eq!(waiting.error.as_deref(), Some("the disk is full"));
        assert!(lab.take(LONG).await.is_none(), "no pause");

        lab.skip_pause().await;
        run = lab.take(LONG).await.expect("the pause is over");
        assert_eq!(run.attempt, attempt);
        assert_eq!(lab.run(&run).await.error, None);
    }

    queue::end(pool, &run, &stumble).await.expect("ended");

    let failed = lab.run(&run).await;
    assert_eq!(failed.status, Status::Failed);
    assert_eq!(failed.error.as_deref(), Some("the disk is full"));
    let plain = lab.running().await;
    queue::end(pool, &plain, &Ending::Failed("two classes needed".to_owned())).await.expect("done");
    assert_eq!(lab.run(&plain).await.status, Status::Failed, "no second attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_handed_back_costs_no_attempt_and_its_former_worker_is_done_with_it() {
    let lab = Lab::new().await;
    let leaving = lab.running().await;

    queue::end(lab.pool(), &leaving, &Ending::HandedBack).await.expect("ended");

    let waiting = lab.run(&leaving).await;
    assert_eq!((waiting.status, waiting.attempt, waiting.error), (Status::Queued, 0, None));
    assert_eq!(waiting.progress.stage, "queued");
    let next = lab.take(LONG).await.expect("due at once");
    assert_eq!((next.id, next.attempt), (leaving.id, 1));
    // Both attempts have the same number.
    lab.may_not_speak(&leaving).await;
    assert_eq!(queue::beat(lab.pool(), &next, LONG).await.expect("answered"), Beat::Continue);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_dead_worker_are_due_at_once_and_those_of_others_are_not() {
    let lab = Lab::new().await;
    let (dead, alive) = (lab.running().await, lab.running().await);

    queue::orphan(lab.pool(), dead.worker).await.expect("answered");
    queue::orphan(lab.pool(), WorkerId::new()).await.expect("a worker without a run is no error");

    assert_eq!(lab.take(LONG).await.map(|run| (run.id, run.attempt)), Some((dead.id, 2)));
    assert!(lab.take(LONG).await.is_none());
    assert_eq!(queue::beat(lab.pool(), &alive, LONG).await.expect("answered"), Beat::Continue);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_failed_and_cancelled_runs_can_be_retried_and_they_get_fresh_attempts() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let retry = async |run| runs::retry(pool, run).await.expect("answered");
    let succeeded = lab.running().await;
    models::publish(pool, &succeeded, &lab.publication("done")).await.expect("published");
    let running = lab.running().await;
    let failed = lab.running().await;
    queue::end(pool, &failed, &Ending::Failed("no".to_owned())).await.expect("ended");
    let cancelled = lab.queue().await;
    runs::cancel(pool, cancelled.id).await.expect("answered");

    assert!(!retry(succeeded.id).await && !retry(running.id).await && !retry(RunId::new()).await);
    assert!(retry(failed.id).await && retry(cancelled.id).await);
    assert!(!retry(failed.id).await, "it is queued already");

    let again = lab.run(&failed).await;
    assert_eq!((again.status, again.error, again.finished_at), (Status::Queued, None, None));
    assert_eq!((again.attempt, again.max_attempts), (1, 4));
    assert_eq!(again.progress.stage, "queued");
    let taken = lab.take(LONG).await.expect("due at once");
    assert_eq!((taken.id, taken.attempt), (failed.id, 2));
    assert_eq!(lab.take(LONG).await.map(|run| run.id), Some(cancelled.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_hides_no_run_and_changes_no_order() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let first = lab.queue().await;
    let second = lab.queue().await;
    // What was written before the clock was set back lies in the future now.
    let ahead = "update runs set created_at = created_at + interval '1 hour',
                     run_after = run_after + interval '1 hour' where id = $1";
    sqlx::query(ahead).bind(first.id.0).execute(pool).await.expect("done");

    let second = runs::one(pool, second.id).await.expect("answered").expect("there");
    assert_eq!(second.queue_position, Some(1));
    let page = runs::Page { limit: 10, ..runs::Page::default() };
    let listed = runs::list(pool, &page).await.expect("answered");
    assert_eq!(listed.iter().map(|run| run.id).collect::<Vec<_>>(), [second.id, first.id]);
    let taken = lab.take(Duration::from_secs(30)).await.expect("it is due");
    assert_eq!(taken.id, first.id);

    // Its worker dies with the machine, whose clock is set back once more.
    let ahead = "update runs set lease_until = lease_until + interval '1 hour' where id = $1";
    sqlx::query(ahead).bind(first.id.0).execute(pool).await.expect("done");
    let again = lab.take(LONG).await.expect("nobody holds it");
    assert_eq!((again.id, again.attempt), (first.id, 2));
    // A worker that is alive is not robbed: its next beat is by the new clock.
    queue::beat(pool, &again, LONG).await.expect("answered");
    assert_eq!(lab.take(LONG).await.map(|run| run.id), Some(second.id));
    assert!(lab.take(LONG).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_get_further_are_not_used_up_and_others_are() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let id = lab.queue().await.id;

    // Reboot after reboot, each with a little more done.
    for attempt in 1..=6 {
        let run = lab.take(GONE).await.expect("due");
        assert_eq!((run.id, run.attempt), (id, attempt));
        assert!(queue::keep(pool, &run, f64::from(attempt) / 10.0).await.expect("answered"));
        queue::orphan(pool, run.worker).await.expect("answered");
    }
    // And now it only gets as far as it ever was.
    for attempt in 7..=8 {
        let run = lab.take(GONE).await.expect("due");
        assert_eq!(run.attempt, attempt);
        assert!(queue::keep(pool, &run, 0.6).await.expect("answered"));
    }

    assert!(lab.take(GONE).await.is_none(), "a fourth attempt without getting any further");
    assert_eq!(queue::reap(pool).await.expect("answered"), 1);
    let failed = runs::one(pool, id).await.expect("answered").expect("there");
    assert_eq!((failed.status, failed.attempt, failed.max_attempts), (Status::Failed, 8, 8));
    let error = failed.error.expect("a reason");
    assert!(error.contains("attempt 8") && error.contains("no further in 3 attempts"), "{error}");
    assert!(runs::retry(pool, id).await.expect("answered"));
    let retried = lab.take(LONG).await.expect("due");
    assert_eq!((retried.attempt, retried.max_attempts), (9, 11));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_stumbles_after_it_got_further_is_tried_again() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    lab.queue().await;
    let stumble = Ending::Stumbled("the disk is full".to_owned());
    for attempt in 1..=3 {
        lab.skip_pause().await;
        let run = lab.take(LONG).await.expect("due");
        assert_eq!(run.attempt, attempt);
        if attempt == 3 {
            queue::keep(pool, &run, 0.5).await.expect("answered");
        }

        queue::end(pool, &run, &stumble).await.expect("ended");

        assert_eq!(lab.run(&run).await.status, Status::Queued, "attempt {attempt}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_known_of_a_run_stands_in_it_and_in_its_events() {
    let lab = Lab::new().await;
    let run = lab.running().await;

    assert!(queue::notice(lab.pool(), &run, "half as many at a time").await.expect("answered"));

    assert_eq!(lab.run(&run).await.notices, ["half as many at a time"]);
    let events = events::since(lab.pool(), run.id, 0, 100).await.expect("answered");
    let attempts: Vec<u32> = events.iter().map(|event| event.attempt).collect();
    assert_eq!(attempts, [0, 1, 1]);
    assert!(matches!(&events[2].body, EventBody::Log { message } if message.contains("half")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_of_one_caller_makes_one_run_and_none_makes_many() {
    let lab = Lab::new().await;
    let (caller, _) =
        keys::create(lab.pool(), &name("caller"), Role::Trainer, None).await.expect("made");
    let once = |caller: Option<KeyId>, key: &str, body: &[u8]| Once {
        caller,
        key: key.to_owned(),
        body: Sha256::of(body),
    };
    let asked = async |once: Once| lab.queue_as(Some(&once)).await.expect("queued").id;

    let same = (0..8).map(|_| asked(once(None, "key", b"body")));
    let made: BTreeSet<RunId> = futures_util::future::join_all(same).await.into_iter().collect();
    let other_key = asked(once(None, "other key", b"body")).await;
    let other_caller = asked(once(Some(caller.id), "key", b"other body")).await;
    let (one, two) = (lab.queue().await, lab.queue().await);

    assert_eq!(made.len(), 1);
    let first = *made.first().expect("one");
    let all: BTreeSet<RunId> = [first, other_key, other_caller, one.id, two.id].into();
    assert_eq!(all.len(), 5);
    assert_eq!(asked(once(Some(caller.id), "key", b"other body")).await, other_caller);
    for caller in [None, Some(caller.id)] {
        let refused = lab.queue_as(Some(&once(caller, "key", b"a third body"))).await;
        assert!(matches!(refused, Err(StoreError::KeyReused)), "{refused:?}");
    }
    assert_eq!(lab.told(first).await, [Status::Queued]);
    assert_eq!(runs::queued(lab.pool()).await.expect("answered"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_newest_first_by_status_and_page() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let running = lab.running().await;
    let (second, third) = (lab.queue().await, lab.queue().await);
    let list = async |status, before, limit| {
        let page = runs::Page { status, before, limit };
        let found = runs::list(pool, &page).await.expect("answered");
        found.into_iter().map(|run| run.id).collect::<Vec<_>>()
    };

    assert_eq!(list(None, None, 10).await, [third.id, second.id, running.id]);
    assert_eq!(list(None, None, 2).await, [third.id, second.id]);
    assert_eq!(list(None, Some(second.id), 2).await, [running.id]);
    assert_eq!(list(Some(Status::Queued), None, 10).await, [third.id, second.id]);
    assert_eq!(list(Some(Status::Queued), Some(third.id), 10).await, [second.id]);
    assert!(list(Some(Status::Failed), None, 10).await.is_empty());
    assert!(runs::one(pool, RunId::new()).await.expect("answered").is_none());
}
