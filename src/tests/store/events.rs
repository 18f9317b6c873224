//! Events and curves: in order, without gaps, and told to whoever listens.

use std::time::Duration;

use lvmed::domain::RunId;
use lvmed::domain::run::{EventBody, Progress, Status};
use lvmed::store::{events, queue};

use super::Lab;

fn point(name: &str, step: u64, value: f64) -> EventBody {
    EventBody::Metric { name: name.to_owned(), step, value }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_concurrent_writers_are_numbered_without_a_gap_and_read_in_order() {
    let lab = Lab::new().await;
    let run = lab.running().await;
    let pool = lab.pool();

    let writers = (0..8_u64).map(|writer| {
        let (pool, run) = (pool.clone(), run.clone());
        tokio::spawn(async move {
            for step in 0..10 {
                let body = point(&format!("writer {writer}"), step, 0.5);
                assert!(queue::tell(&pool, &run, &body).await.expect("told"));
                let progress = Progress { done: step, ..Progress::default() };
                assert!(queue::report(&pool, &run, &progress).await.expect("reported"));
            }
        })
    });
    for ended in futures_util::future::join_all(writers).await {
        ended.expect("the writer ends");
    }

    let all = events::since(pool, run.id, 0, 1000).await.expect("answered");
    let numbers: Vec<i64> = all.iter().map(|event| event.sequence).collect();
    // Queued and running come first.
    assert_eq!(numbers, (1..=162).collect::<Vec<i64>>());
    for writer in 0..8 {
        let own = format!("writer {writer}");
        let steps = all.iter().filter_map(|event| match &event.body {
            EventBody::Metric { name, step, .. } if *name == own => Some(*step),
            _ => None,
        });
        assert!(steps.eq(0..10), "{own} is out of order");
    }
    let part = events::since(pool, run.id, 100, 7).await.expect("answered");
    assert_eq!(part, all[100..107]);
    assert!(events::since(pool, run.id, 162, 7).await.expect("answered").is_empty());
    assert!(events::since(pool, RunId::new(), 0, 7).await.expect("answered").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_computed_again_replaces_its_equal_on_the_curve() {
    let lab = Lab::new().await;
    let run = lab.running().await;
    let bodies = [
        point("train_loss", 2, 0.5),
        point("train_loss", 1, 0.7),
        point("train_loss", 2, 0.25),
        point("validation_loss", 1, f64::MAX),
        EventBody::Log { message: "not on a curve".to_owned() },
    ];

    for body in &bodies {
        assert!(queue::tell(lab.pool(), &run, body).await.expect("told"));
    }

    let curves = events::curves(lab.pool(), run.id).await.expect("answered");
    assert_eq!(curves["train_loss"], [(1, 0.7), (2, 0.25)]);
    assert_eq!(curves["validation_loss"], [(1, f64::MAX)]);
    assert_eq!(curves.len(), 2);
    assert!(events::curves(lab.pool(), RunId::new()).await.expect("answered").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_curve_goes_on_where_a_further_attempt_does_and_loses_what_was_beyond() {
    let lab = Lab::new().await;
    let run = lab.running().await;
    let first = (1..=5).map(|step| point("train_loss", step, 0.5));
    let other = (1..=5).map(|step| point("validation_loss", step, 0.5));
    let second = (3..=4).map(|step| point("train_loss", step, 0.25));

    for body in first.chain(other).chain(second) {
        assert!(queue::tell(lab.pool(), &run, &body).await.expect("told"));
    }

    let curves = events::curves(lab.pool(), run.id).await.expect("answered");
    assert_eq!(curves["train_loss"], [(1, 0.5), (2, 0.5), (3, 0.25), (4, 0.25)]);
    assert_eq!(curves["validation_loss"].len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_is_told_which_run_changed() {
    let lab = Lab::new().await;
    let changes = events::listen(lab.pool().clone());
    let mut changed = changes.subscribe();
    let run = lab.queue().await;
    // The listener connects in its own time: changes are made until the first is heard.
    let heard = async {
        loop {
            let progress = "update runs set progress = progress where id = $1";
            sqlx::query(progress).bind(run.id.0).execute(lab.pool()).await.expect("changed");
            let soon = tokio::time::timeout(Duration::from_millis(50), changed.recv());
            if let Ok(Ok(heard)) = soon.await {
                break heard;
            }
        }
    };
    let first = tokio::time::timeout(Duration::from_secs(30), heard).await.expect("it is heard");
    assert_eq!(first, run.id);
    while changed.try_recv().is_ok() {}

    let claimed = lab.take(super::LONG).await.expect("a run is due");
    let taken = changed.recv().await.expect("told");
    queue::tell(lab.pool(), &claimed, &EventBody::Log { message: "a line".to_owned() })
        .await
        .expect("told");
    let logged = changed.recv().await.expect("told");

    assert_eq!((taken, logged), (run.id, run.id));
    let events = events::since(lab.pool(), run.id, 1, 1).await.expect("answered");
    assert!(matches!(events[0].body, EventBody::Status { status: Status::Running, .. }));
}
