-- Runs of kind `pretrain`: versions of images without labels, and the backbones they publish.

alter table version_images alter column label drop not null;

alter table backbones
    add column stage text not null default 'approved' check (stage in ('candidate', 'approved')),
    add column parent_id uuid references backbones (id),
    add column run_id uuid unique references runs (id),
    add column comparison jsonb,
    add column artifacts jsonb not null default '[]';

-- The newest pair of graphs that a run matched, for people to look at.
create table matched_pairs (
    run_id uuid primary key references runs (id),
    step bigint not null check (step >= 0),
    body jsonb not null,
    shown_at timestamptz not null default now()
);
