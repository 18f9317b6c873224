-- A key may end by itself.

alter table api_keys add column expires_at timestamptz;
