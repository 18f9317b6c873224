-- The queue's order is a sequence's and not the clock's; attempts are counted since a run last got
-- further; what a step costs is known to the server and its workers alike.

alter table runs add column sequence bigint;
update runs r set sequence = o.place
    from (select id, row_number() over (order by created_at, id) as place from runs) o
    where o.id = r.id;
alter table runs
    alter column sequence set not null,
    alter column sequence add generated always as identity;
select setval(pg_get_serial_sequence('runs', 'sequence'),
              (select coalesce(max(sequence), 0) + 1 from runs), false);
create unique index runs_sequence on runs (sequence);
drop index runs_claim;
create index runs_claim on runs (sequence) where status in ('queued', 'running');

alter table runs
    -- How long a lease is given for: one that ends further ahead was given by another clock.
    add column lease interval,
    -- The share of the run that the next attempt need not do again, at its highest.
    add column kept_share double precision not null default 0,
    -- What whoever looks at the run should know of it.
    add column notices jsonb not null default '[]';

-- The attempt that an event is of; 0 before the first.
alter table run_events add column attempt integer not null default 0;

-- The cost of training steps by the machine that measured it.
create table calibrations (
    machine text not null,
    trial jsonb not null,
    cost jsonb not null,
    measured_at timestamptz not null default now(),
    primary key (machine, trial)
);
