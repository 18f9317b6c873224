-- Everything the server remembers. Constraints carry the state machine.

create table server (
    only_row boolean primary key default true check (only_row),
    -- Names the secret behind the patient keys, so that another secret is noticed at once.
    secret_fingerprint text not null
);

create table api_keys (
    id uuid primary key,
    name text not null,
    role text not null check (role in ('viewer', 'trainer', 'admin')),
    prefix text not null,
    hash bytea not null unique,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);

create table backbones (
    id uuid primary key,
    name text not null,
    architecture text not null,
    preprocessing jsonb not null,
    embedding_size integer not null check (embedding_size > 0),
    parameters bigint not null,
    weights_sha256 text not null,
    weights_size_bytes bigint not null,
    onnx_sha256 text not null,
    source_sha256 text not null,
    source_url text not null,
    license text not null,
    notices jsonb not null,
    parity jsonb not null,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);

create table datasets (
    id uuid primary key,
    name text not null,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index datasets_name on datasets (name) where deleted_at is null;

create table images (
    id uuid primary key,
    dataset_id uuid not null references datasets (id),
    file text not null,
    frame integer not null check (frame >= 0),
    label text,
    patient_key text not null,
    split text check (split in ('train', 'validation', 'test')),
    format text not null check (format in ('png', 'jpeg', 'dicom')),
    width integer not null check (width > 0),
    height integer not null check (height > 0),
    modality text,
    window_center double precision,
    window_width double precision,
    blob text not null,
    size_bytes bigint not null,
    created_at timestamptz not null default now(),
    deleted_at timestamptz,
    constraint images_window_whole check ((window_center is null) = (window_width is null))
);
create unique index images_once on images (dataset_id, blob, frame) where deleted_at is null;
create index images_of_dataset on images (dataset_id, id);
create index images_of_blob on images (blob);

create table rejected_files (
    id bigint generated always as identity primary key,
    dataset_id uuid not null references datasets (id),
    file text not null,
    reason text not null,
    created_at timestamptz not null default now()
);
create index rejected_files_of_dataset on rejected_files (dataset_id, id);

create table dataset_versions (
    id uuid primary key,
    dataset_id uuid not null references datasets (id),
    number integer not null check (number > 0),
    digest text not null,
    seed bigint not null,
    labels jsonb not null,
    splits jsonb not null,
    notices jsonb not null,
    created_at timestamptz not null default now(),
    unique (dataset_id, number)
);

create table version_images (
    version_id uuid not null references dataset_versions (id),
    image_id uuid not null references images (id),
    label text not null,
    patient_key text not null,
    split text not null check (split in ('train', 'validation', 'test')),
    primary key (version_id, image_id)
);
create index version_images_of_image on version_images (image_id);

create type run_status as enum ('queued', 'running', 'succeeded', 'failed', 'cancelled');

create table runs (
    id uuid primary key,
    kind text not null,
    spec jsonb not null,
    provenance jsonb not null,
    dataset_version_id uuid references dataset_versions (id),
    backbone_id uuid references backbones (id),
    status run_status not null default 'queued',
    attempt integer not null default 0,
    max_attempts integer not null default 3 check (max_attempts > 0),
    run_after timestamptz not null default now(),
    lease_owner uuid,
    lease_until timestamptz,
    cancel_requested_at timestamptz,
    progress jsonb not null default '{"stage": "queued", "done": 0, "total": 0, "fraction": 0}',
    error text,
    evaluation jsonb,
    idempotency_key text unique,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    constraint runs_leased_while_running
        check ((status = 'running') = (lease_owner is not null and lease_until is not null)),
    constraint runs_finished_when_done
        check ((status in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null))
);
create index runs_claim on runs (created_at) where status in ('queued', 'running');
create index runs_of_version on runs (dataset_version_id);
create index runs_of_backbone on runs (backbone_id);

create table run_events (
    run_id uuid not null references runs (id),
    sequence bigint not null,
    at timestamptz not null default now(),
    body jsonb not null,
    primary key (run_id, sequence)
);

create table run_metrics (
    run_id uuid not null references runs (id),
    name text not null,
    step bigint not null,
    value double precision not null,
    primary key (run_id, name, step)
);

create table checkpoints (
    run_id uuid primary key references runs (id),
    blob text not null,
    written_at timestamptz not null default now()
);

create table features (
    backbone_sha256 text not null,
    preprocessing text not null,
    blob text not null,
    frame integer not null,
    vector bytea not null,
    primary key (backbone_sha256, preprocessing, blob, frame)
);

create table models (
    id uuid primary key,
    name text not null,
    version integer not null check (version > 0),
    stage text not null default 'candidate'
        check (stage in ('candidate', 'approved', 'serving', 'archived')),
    run_id uuid not null unique references runs (id),
    backbone_id uuid not null references backbones (id),
    labels jsonb not null,
    preprocessing jsonb not null,
    evaluation jsonb not null,
    license text not null,
    created_at timestamptz not null default now(),
    deleted_at timestamptz,
    unique (name, version)
);

create table artifacts (
    model_id uuid not null references models (id),
    name text not null,
    media_type text not null,
    size_bytes bigint not null,
    sha256 text not null,
    primary key (model_id, name)
);

create table predictions (
    run_id uuid not null references runs (id),
    image_id uuid not null references images (id),
    probabilities jsonb not null,
    primary key (run_id, image_id)
);

create function notify_run() returns trigger language plpgsql as $$
begin
    perform pg_notify('runs', new.id::text);
    return null;
end $$;

create trigger runs_changed after insert or update of status, progress, cancel_requested_at on runs
    for each row execute function notify_run();
