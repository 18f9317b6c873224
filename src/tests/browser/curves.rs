//! The curve of a run that is done again: it goes on or begins anew, and is never two.

use serde_json::json;

use super::driver::Browser;
use crate::server::Server;

/// Five points; then a crash, after which an attempt goes on from step 3; then "Try again", which goes
/// on from step 2; then "Try again" from the start.
const ATTEMPTS: &str = "return import('/static/js/points.js').then(({ addPoint, newPoints, setAside }) => {
    const points = newPoints();
    const steps = () => [...(points.shown.get('loss') ?? [])].map(([step, value]) => [step, value]);
    const add = (attempt, ...steps) => steps.forEach((step) => addPoint(points, 'loss', step, attempt));
    add(1, 1, 2, 3, 4, 5);
    add(2, 4);
    const resumed = steps();
    setAside(points);
    const waiting = steps();
    add(3, 3);
    const retried = steps();
    setAside(points);
    add(4, 1);
    return { resumed, waiting, retried, anew: steps() };
})";

#[tokio::test(flavor = "multi_thread")]
async fn the_curve_of_a_further_attempt_goes_on_where_it_does() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start_with(&[("LVMED_WORKERS", "0")]);
    browser.open(&server.address, "").await;

    let curves = browser.execute(ATTEMPTS).await;

    assert_eq!(curves["resumed"], json!([[1, 1], [2, 1], [3, 1], [4, 2]]));
    assert_eq!(curves["waiting"], json!([]));
    assert_eq!(curves["retried"], json!([[1, 1], [2, 1], [3, 3]]));
    assert_eq!(curves["anew"], json!([[1, 4]]));
    browser.stop().await;
}
