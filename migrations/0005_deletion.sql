-- Deletion takes the rows with it, and a sweep removes the files that no row names.

-- Names this database, so that no sweep takes the files of another one for leftovers.
alter table server add column store_id uuid not null default gen_random_uuid();

-- Asked for by the foreign key, once for each image that is deleted.
create index predictions_of_image on predictions (image_id);

-- What deletions left behind until now.
delete from matched_pairs m using runs r, dataset_versions v, datasets d
    where r.id = m.run_id and v.id = r.dataset_version_id and d.id = v.dataset_id
      and d.deleted_at is not null;
delete from predictions p using images i, datasets d
    where i.id = p.image_id and d.id = i.dataset_id and d.deleted_at is not null;
delete from version_images v using images i, datasets d
    where i.id = v.image_id and d.id = i.dataset_id and d.deleted_at is not null;
delete from rejected_files r using datasets d
    where d.id = r.dataset_id and d.deleted_at is not null;
delete from images i using datasets d where d.id = i.dataset_id and d.deleted_at is not null;
update datasets set name = 'deleted' where deleted_at is not null;
delete from artifacts a using models m where m.id = a.model_id and m.deleted_at is not null;
