-- Checkpoints keep the one before them; runs of kind `replay` say what they found.

alter table checkpoints add column previous text;

alter table runs add column replayed jsonb;
