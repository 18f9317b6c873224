-- An Idempotency-Key belongs to whoever sent it and to the body that it came with. Keys from before
-- are forgotten: of them nobody knows whose they were.

alter table runs drop constraint runs_idempotency_key_key;
update runs set idempotency_key = null where idempotency_key is not null;
alter table runs
    add column idempotency_caller uuid references api_keys (id),
    add column idempotency_body bytea,
    add constraint runs_idempotency_is_whole
        check ((idempotency_key is null) = (idempotency_body is null));

-- Callers without an API key are one caller.
create unique index runs_idempotency on runs
    (idempotency_key, coalesce(idempotency_caller, '00000000-0000-0000-0000-000000000000'))
    where idempotency_key is not null;
