-- No name of a file is kept: images have numbers, rejected files their place in the upload.

alter table datasets add column last_number bigint not null default 0 check (last_number >= 0);

-- `original_keys` finds a picture by a file that somebody still has: keyed hashes of the digests of
-- the files that it came from.
alter table images
    add column number bigint check (number > 0),
    add column original_keys text[] not null default '{}';

-- The order of ids is that of upload. Frames of one file share a number; a file that was deleted and
-- came again has got another one.
update images i set number = numbered.number
from (
    select id, dense_rank() over (partition by dataset_id order by first, blob) as number
    from (
        select id, dataset_id, blob,
            first_value(id) over (partition by dataset_id, blob, generation order by id) as first
        from (
            select id, dataset_id, blob,
                row_number() over (partition by dataset_id, blob, frame order by id) as generation
            from images
        ) as generations
    ) as files
) as numbered
where i.id = numbered.id;

update datasets d set last_number = counted.last
from (select dataset_id, max(number) as last from images group by dataset_id) as counted
where counted.dataset_id = d.id;

alter table images alter column number set not null, drop column file;
create unique index images_number on images (dataset_id, number, frame) where deleted_at is null;
create index images_original_keys on images using gin (original_keys);

-- `upload` is a keyed hash of the upload, whose files are listed once however often it comes.
alter table rejected_files
    drop column file,
    add column entry bigint check (entry > 0),
    add column upload text,
    add column files bigint not null default 1 check (files > 0);
create index rejected_files_of_upload on rejected_files (dataset_id, upload);

-- What was written before may quote names.
update rejected_files
set reason = 'was rejected before names of files were no longer kept; the reason went with the name';

-- A column that is dropped stays in the rows until they are written anew.
cluster images using images_pkey;
cluster rejected_files using rejected_files_pkey;

-- Classes and names that look the same are the same, from now on in one form. Names in recipes are
-- read back under the rules of today.
do $$
declare
    hidden constant text := '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff]';
begin
    if getdatabaseencoding() = 'UTF8' then
        update images set label = normalize(label, NFC)
        where label is not null and label is not nfc normalized;
        update runs
        set spec = jsonb_set(spec, '{name}',
            to_jsonb(coalesce(nullif(trim(regexp_replace(spec->>'name', hidden, '', 'g')), ''), 'unnamed')))
        where spec->>'name' ~ hidden;
    end if;
end $$;
