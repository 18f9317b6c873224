-- Datasets, versions and models have a task, evaluations are tagged by it, and what a run found is one
-- value tagged by the kind of the run.

alter table datasets
    add column task text not null default 'classification' check (task in ('classification'));
alter table dataset_versions
    add column task text not null default 'classification' check (task in ('classification'));
alter table models
    add column task text not null default 'classification' check (task in ('classification'));

update models set evaluation = evaluation || '{"task": "classification"}';
alter table models
    add constraint models_evaluated_by_task check (evaluation ->> 'task' is not distinct from task);

-- Models and backbones that runs published are not in it: their rows name the run, and may be deleted.
alter table runs add column outcome jsonb;
update runs set outcome = jsonb_build_object('kind', kind,
    'evaluation', evaluation || '{"task": "classification"}')
where kind = 'finetune' and evaluation is not null;
update runs set outcome = jsonb_build_object('kind', kind, 'replayed', replayed)
where kind = 'replay' and replayed is not null;
update runs r set outcome = jsonb_build_object('kind', kind,
    'comparison', (select b.comparison from backbones b where b.run_id = r.id))
where kind = 'pretrain' and status = 'succeeded';

alter table runs
    drop column evaluation,
    drop column replayed,
    add constraint runs_outcome_is_of_its_kind
        check (outcome is null or outcome ->> 'kind' is not distinct from kind);
-- A backbone was compared by the run that made it.
alter table backbones drop column comparison;
