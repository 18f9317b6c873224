//! Places for connections: how many there are in all and for one address, and who makes room.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use crate::config::Connections;

/// Counts connections that were closed to make room, by why: `all`, `address` or `reserved`.
const CLOSED: &str = "lvmed_connections_closed_total";
/// Counts connections that found every place taken by one that works.
const TURNED_AWAY: &str = "lvmed_connections_turned_away_total";

/// The choice which connections of a listener are held in reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Everything is served, the last places being in reserve.
    Everything,
    /// All places are like those in reserve: only probes are answered.
    Probes,
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    per_address: usize,
    reserved: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    taken: HashMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    source: IpAddr,
    is_reserved: bool,
    since: Instant,
    activity: Arc<Activity>,
    close: CancellationToken,
}

/// A connection's place; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    is_reserved: bool,
    activity: Arc<Activity>,
    close: CancellationToken,
}

impl Places {
    /// Places as the bounds say; without any that serve everything where only probes are answered.
    pub(super) fn new(bounds: &Connections, purpose: Purpose) -> Self {
        let all = match purpose {
            Purpose::Everything => bounds.all as usize,
            Purpose::Probes => 0,
        };
        let (per_address, reserved) = (bounds.per_address as usize, bounds.reserved as usize);
        Self { all, per_address, reserved, table: Mutex::default() }
    }

    /// A place for a connection from this address. There is always one: where all are taken, another
    /// connection that waits for its client is closed, or the new one gets a place in reserve.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Place {
        let source = source(address);
        let mut table = self.lock();
        let is_reserved = !self.make_ordinary(&mut table, source);
        if is_reserved {
            if self.all > 0 {
                metrics::counter!(TURNED_AWAY).increment(1);
            }
            self.make_reserved(&mut table);
        }
        let (activity, close) = (Activity::new(), CancellationToken::new());
        let number = table.next;
        table.next += 1;
        let taken = Taken {
            source,
            is_reserved,
            since: Instant::now(),
            activity: Arc::clone(&activity),
            close: close.clone(),
        };
        table.taken.insert(number, taken);
        drop(table);
        Place { places: Arc::clone(self), number, is_reserved, activity, close }
    }

    /// Closes the connection that has waited longest, as when no descriptor is left.
    pub(super) fn close_longest_waiting(&self) {
        self.lock().close_waiting("all", |_| true);
    }

    /// Whether there is an ordinary place, made if need be.
    fn make_ordinary(&self, table: &mut Table, source: IpAddr) -> bool {
        let of_source = |taken: &Taken| !taken.is_reserved && taken.source == source;
        let ordinary = |taken: &Taken| !taken.is_reserved;
        let fits =
            table.count(of_source) < self.per_address || table.close_waiting("address", of_source);
        fits && (table.count(ordinary) < self.all || table.close_waiting("all", ordinary))
    }

    /// Makes a place in reserve, at the cost of the oldest one if all of them work.
    fn make_reserved(&self, table: &mut Table) {
        let reserved = |taken: &Taken| taken.is_reserved;
        if table.count(reserved) >= self.reserved && !table.close_waiting("reserved", reserved) {
            table.close_first("reserved", |taken| taken.is_reserved.then_some(taken.since));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic with the table at hand leaves nothing half done that counting could trip over.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&self, which: impl Fn(&Taken) -> bool) -> usize {
        self.taken.values().filter(|taken| which(taken)).count()
    }

    /// Closes whichever of these has waited longest for its client; whether one did.
    fn close_waiting(&mut self, why: &'static str, which: impl Fn(&Taken) -> bool) -> bool {
        self.close_first(why, |taken| taken.activity.waiting_since().filter(|_| which(taken)))
    }

    /// Closes the one with the earliest time; its place is free at once.
    fn close_first(&mut self, why: &'static str, time: impl Fn(&Taken) -> Option<Instant>) -> bool {
        let timed = self.taken.iter().filter_map(|(number, taken)| Some((time(taken)?, *number)));
        let Some((_, number)) = timed.min() else { return false };
        if let Some(taken) = self.taken.remove(&number) {
            taken.close.cancel();
            metrics::counter!(CLOSED, "why" => why).increment(1);
        }
        true
    }
}

impl Place {
    /// Whether only probes are answered here.
    pub(super) fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// The activity that the connection tells of.
    pub(super) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Returns when the connection has to make room for another one.
    pub(super) async fn closed(&self) {
        self.close.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.number);
    }
}

/// The part of an address that counts as one: of IPv6, where a host has as many as it likes, the
/// network.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::{Place, Places, Purpose, source};
    use crate::config::Limits;
    use crate::http::wire::listen::activity::Answering;

    fn places(all: u32, per_address: u32, reserved: u32) -> Arc<Places> {
        let mut bounds = Limits::default().connections;
        (bounds.all, bounds.per_address, bounds.reserved) = (all, per_address, reserved);
        Arc::new(Places::new(&bounds, Purpose::Everything))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_closed(place: &Place) -> bool {
        place.close.is_cancelled()
    }

    #[test]
    fn the_connection_that_has_waited_longest_makes_room() {
        let places = places(3, 3, 1);
        let working = places.take(address(1));
        let request = Answering::begin(&working.activity());
        let waiting = places.take(address(2));
        let later = places.take(address(3));

        let new = places.take(address(4));

        assert!(!new.is_reserved() && is_closed(&waiting));
        assert!(!is_closed(&working) && !is_closed(&later));
        drop(request);
    }

    #[test]
    fn where_all_work_a_new_one_gets_a_place_in_reserve_and_there_is_always_one() {
        let places = places(1, 1, 2);
        let working = places.take(address(1));
        let _request = Answering::begin(&working.activity());

        let reserved: Vec<Place> = (2..6).map(|last| places.take(address(last))).collect();

        assert!(reserved.iter().all(Place::is_reserved));
        let closed: Vec<bool> = reserved.iter().map(is_closed).collect();
        assert_eq!(closed, [true, true, false, false]);
        assert!(!is_closed(&working));
    }

    #[test]
    fn one_address_cannot_take_the_places_of_the_others() {
        let places = places(10, 2, 1);
        let greedy: Vec<Place> = (0..2).map(|_| places.take(address(1))).collect();
        let requests: Vec<_> =
            greedy.iter().map(|place| Answering::begin(&place.activity())).collect();

        assert!(places.take(address(1)).is_reserved());
        assert!(!places.take(address(2)).is_reserved());
        drop(requests);
        assert!(!places.take(address(1)).is_reserved());
        assert!(greedy.iter().any(is_closed));
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_has_ended() {
        let places = places(1, 1, 1);
        for _ in 0..3 {
            let place = places.take(address(1));
            let _request = Answering::begin(&place.activity());
            assert!(!place.is_reserved());
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let parse = |text: &str| source(text.parse().expect("an address"));

        assert_eq!(parse("2001:db8:0:1::1"), parse("2001:db8:0:1:ffff::2"));
        assert_ne!(parse("2001:db8:0:1::1"), parse("2001:db8:0:2::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), address(1));
    }
}
